import re
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks.change import main

Bench = Callable[..., tuple[int, str]]


@pytest.fixture
def bench(script: Bench) -> Bench:
    """Return what runs the command."""
    return partial(script, main, "--seconds", "0.4")


RATIO = r"([\d.]+) \[([\d.]+), ([\d.]+)\]"


def test_a_change_that_costs_much_is_seen_to_be_behind_unless_noise_is_larger(bench: Bench) -> None:
    code, text = bench("--change", "model.depth=16")
    assert code == 0, text
    ((worth, _, high, _, *noise, verdict),) = re.findall(
        f"worth {RATIO}, noise {RATIO}: (.*)", text
    )
    assert 0 < float(worth) < 0.6
    drowned = max(abs(float(end) - 1) for end in noise) >= 1 - float(worth)  # on a busy machine
    assert verdict == ("tie" if drowned or float(high) >= 1 else "behind")
    assert text.count("as it is ") == 2
    assert "model.depth=16 " in text


def test_an_open_batch_size_and_a_time_limit_are_settled_as_in_a_run(bench: Bench) -> None:
    code, text = bench("train.batch_size=auto", "train.max_minutes=1", "--change", "seed=1")
    assert code == 0, text
    assert "batch 64\n" in text  # the largest power of two that 70 images fill


def test_a_mistake_in_the_change_is_one_line(bench: Bench) -> None:
    code, text = bench("--change", "model.dept=2")
    assert code == 2
    assert "did you mean 'depth'" in text.splitlines()[-1]
