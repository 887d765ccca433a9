from pathlib import Path

import numpy as np

from vtrain.files.plain import plain
from vtrain.report.intervals import Interval


def test_plain_data_keep_their_values() -> None:
    given = {1: np.float32(0.5), "a": (np.int64(3), float("inf")), "p": Path("x"), "b": True}
    given |= {"i": Interval(0.25, float("nan")), "n": None, "z": np.array([[1, 2]])}
    assert plain(given) == {
        "1": 0.5,
        "a": [3, None],
        "p": "x",
        "b": True,
        "i": [0.25, None],
        "n": None,
        "z": [[1, 2]],
    }
