from collections.abc import Callable
from functools import partial

import pytest

from benchmarks.data_share import main

Share = Callable[..., tuple[int, str]]


@pytest.fixture
def share(script: Share) -> Share:
    """Return what runs the command."""
    return partial(script, main, "--turns", "1")


@pytest.mark.parametrize(("goal", "code"), [("1", 0), ("0", 1)])
def test_the_share_of_the_data_path_is_held_against_the_goal(
    share: Share, goal: str, code: int
) -> None:
    done, text = share("--goal", goal, "--cpu-time")
    assert done == code
    assert "of the step (" in text


def test_a_mistake_in_the_config_is_one_line(share: Share) -> None:
    code, text = share("data.num_image=3")
    assert code == 2
    assert text.count("\n") == 1
    assert "did you mean 'num_images'" in text
