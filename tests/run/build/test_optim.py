"""A run's schedule."""

import pytest

from tests.base_configs import SMALL_RUN
from vtrain.config import config_from_text
from vtrain.run.build.optim import build_schedule
from vtrain.run.build.resolve import resolve
from vtrain.run.text.late import late_numbers


@pytest.mark.parametrize("warmup", ["warmup_epochs: 9", "warmup_steps: 27", "warmup_steps: 6"])
def test_a_warm_up_that_would_outlast_a_short_run_takes_half_of_it(
    warmup: str,
) -> None:
    """So that a recipe can be tried with `train.epochs=2` alone."""
    change = f"schedule={{name: cosine, {warmup}}}"
    plan = resolve(config_from_text(SMALL_RUN, "run.yaml", [change]))
    schedule = build_schedule(plan)
    half = resolve(config_from_text(SMALL_RUN, "x", ["schedule={name: cosine, warmup_steps: 3}"]))
    expected = build_schedule(half)
    assert plan.total_steps == 6
    assert [schedule(step) for step in range(6)] == [expected(step) for step in range(6)]
    (said,) = late_numbers(plan)
    assert "is not shorter than the run of 2 epochs: half of it is warm-up" in said


def test_a_warm_up_that_ends_in_time_is_left_alone() -> None:
    change = "schedule={name: cosine, warmup_steps: 5}"
    plan = resolve(config_from_text(SMALL_RUN, "run.yaml", [change]))
    schedule = build_schedule(plan)
    assert schedule(4) == pytest.approx(5 / 6)  # step s of W has (s + 1) / (W + 1)
    assert late_numbers(plan) == []
