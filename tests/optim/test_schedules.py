"""Schedules against tables worked out by hand."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtrain.optim.schedules import fitted_step
from vtrain.registry import SCHEDULES

# (name, arguments, {step: factor}) for runs of 14 steps, 3 in an epoch.
TABLES = [
    ("constant", {}, {0: 1, 13: 1}),
    ("constant", {"warmup_steps": 3}, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 13: 1}),
    # Half of a cosine over the 10 steps from 3 to 13: half way at 8.
    (
        "cosine",
        {"warmup_epochs": 1, "floor": 0.1},
        {0: 0.25, 1: 0.5, 2: 0.75, 3: 1, 8: 0.55, 13: 0.1, 20: 0.1},
    ),
    ("cosine", {"warmup_steps": 1, "warmup_start": 0.2}, {0: 0.6, 1: 1, 7: 0.5, 13: 0}),
    ("cosine", {}, {0: 1, 13: 0}),
    ("linear", {}, {0: 1, 13: 0}),
    ("linear", {"warmup_epochs": 1}, {0: 0.25, 3: 1, 4: 0.9, 8: 0.5, 12: 0.1, 13: 0}),
    ("linear", {"warmup_epochs": 1, "floor": 0.5}, {3: 1, 4: 0.95, 8: 0.75, 13: 0.5}),
    ("linear", {"warmup_epochs": 1 / 3}, {0: 0.5, 1: 1, 7: 0.5}),  # a third of an epoch: one step
    ("polynomial", {"warmup_epochs": 1}, {0: 0.25, 3: 1, 4: 0.81, 8: 0.25, 13: 0}),
    ("polynomial", {"power": 3.0, "warmup_steps": 3, "floor": 0.2}, {3: 1, 8: 0.3, 13: 0.2}),
    ("step", {"every_epochs": 2, "gamma": 0.5}, {0: 1, 5: 1, 6: 0.5, 11: 0.5, 12: 0.25, 13: 0.25}),
    ("step", {"every_epochs": 1, "floor": 0.05}, {2: 1, 3: 0.1, 5: 0.1, 6: 0.05, 13: 0.05}),
    ("step", {"every_epochs": 2, "gamma": 0.5, "warmup_epochs": 1}, {0: 0.25, 3: 1, 6: 0.5}),
    (
        "multistep",
        {"milestones": [1.0, 3.0]},
        {0: 1, 2: 1, 3: 0.1, 8: 0.1, 9: 0.01, 13: 0.01},
    ),
    ("multistep", {"milestones": []}, {0: 1, 13: 1}),
    # 0.3 of 14 steps, rounded: the last 4 fall, in quarters.
    (
        "warmup_stable_decay",
        {"decay_fraction": 0.3, "warmup_epochs": 1},
        {0: 0.25, 2: 0.75, 3: 1, 9: 1, 10: 0.75, 11: 0.5, 12: 0.25, 13: 0},
    ),
    ("warmup_stable_decay", {"decay_fraction": 0.0}, {0: 1, 13: 1}),
    (
        "warmup_stable_decay",
        {"decay_fraction": 0.93, "floor": 0.35},
        {0: 1, 1: 0.95, 7: 0.65, 13: 0.35},
    ),
]


@pytest.mark.parametrize(("name", "arguments", "table"), TABLES)
def test_a_schedule_has_the_factors_of_the_table(
    name: str, arguments: dict[str, float], table: dict[int, float]
) -> None:
    factor = SCHEDULES[name](14, 3, **arguments)
    assert {step: factor(step) for step in table} == pytest.approx(table, abs=1e-12)


def test_every_schedule_has_a_table() -> None:
    assert {name for name, _, _ in TABLES} | {"one_cycle"} == set(SCHEDULES.names())


@pytest.mark.parametrize(("total", "fraction"), [(10, 0.3), (100, 0.3), (37, 0.25), (50, 0.5)])
def test_one_cycle_is_torchs(total: int, fraction: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total, pct_start=fraction, div_factor=25, final_div_factor=1e4
    )
    ours = SCHEDULES["one_cycle"](total, 10, warmup_fraction=fraction)
    for step in range(total):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 1.0])
def test_a_cycle_without_rise_or_fall_is_still_a_schedule(fraction: float) -> None:
    factor = SCHEDULES["one_cycle"](10, 10, warmup_fraction=fraction)
    assert all(0 < factor(step) <= 1 for step in range(12))


@given(
    total=st.integers(1, 400),
    steps_per_epoch=st.integers(1, 50),
    warmup_steps=st.integers(0, 400),
    start=st.floats(0, 1),
    floor=st.floats(0, 1),
    name=st.sampled_from(["cosine", "linear", "polynomial", "step", "warmup_stable_decay"]),
)
def test_a_schedule_climbs_to_1_and_then_never_rises(
    total: int, steps_per_epoch: int, warmup_steps: int, start: float, floor: float, name: str
) -> None:
    warmup_steps = min(warmup_steps, total // 2)
    if name == "step":
        warmup_steps = min(warmup_steps, 30 * steps_per_epoch - 1)
    factor = SCHEDULES[name](
        total, steps_per_epoch, warmup_steps=warmup_steps, warmup_start=start, floor=floor
    )
    factors = [factor(step) for step in range(total + 3)]
    climb, fall = factors[: warmup_steps + 1], factors[warmup_steps:]
    assert all(0 <= f <= 1 + 1e-12 for f in factors)
    assert climb == sorted(climb)
    assert all(a >= b - 1e-12 for a, b in pairwise(fall))
    assert factors[total - 1 :] == [factors[total - 1]] * 4


def test_two_lengths_of_the_warm_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup_epochs \(1\) or warmup_steps \(5\), not both"):
        SCHEDULES["cosine"](100, 10, warmup_epochs=1, warmup_steps=5)


@pytest.mark.parametrize(
    "arguments", [{"warmup_epochs": 10}, {"warmup_epochs": 99.5}, {"warmup_steps": 100}]
)
def test_a_warm_up_as_long_as_the_run_takes_half_of_it(arguments: dict[str, int]) -> None:
    for name in set(SCHEDULES.names()) - {"one_cycle", "multistep"}:
        schedule = SCHEDULES[name](100, 10, **arguments)
        halved = SCHEDULES[name](100, 10, warmup_steps=50)
        assert [schedule(step) for step in range(100)] == [halved(step) for step in range(100)]


@pytest.mark.parametrize(("warmup", "fraction"), [(30, 0.8), (20, 0.8), (0, 0.999)])
def test_a_decay_that_starts_within_the_warm_up_is_refused(warmup: int, fraction: float) -> None:
    message = rf"warm-up \({warmup} steps\) and decay_fraction \({fraction}, \d+ steps\) leave none"
    with pytest.raises(ValueError, match=message):
        SCHEDULES["warmup_stable_decay"](100, 10, warmup_steps=warmup, decay_fraction=fraction)


@pytest.mark.parametrize(
    ("milestones", "message"),
    [
        ([3.0, 2.0], "must rise"),
        ([2.0, 2.0], "must rise"),
    ],
)
def test_impossible_milestones_are_refused(milestones: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEDULES["multistep"](100, 10, milestones=milestones)


def test_milestones_after_the_end_are_never_reached() -> None:
    schedule = SCHEDULES["multistep"](100, 10, milestones=[5.0, 10.0, 60.0], gamma=0.1)
    assert [schedule(step) for step in (49, 50, 99)] == pytest.approx([1, 0.1, 0.1])


def test_a_drop_within_the_warm_up_is_refused() -> None:
    with pytest.raises(ValueError, match=r"every_epochs \(2\) drops the rate before .* 30 steps"):
        SCHEDULES["step"](100, 10, every_epochs=2.0, warmup_epochs=3)
    with pytest.raises(
        ValueError, match=r"milestones \(\[1.0, 5.0\]\) drops the rate before .* 30 steps"
    ):
        SCHEDULES["multistep"](100, 10, milestones=[1.0, 5.0], warmup_steps=30)


def test_without_a_budget_in_time_the_schedule_stands_at_the_step() -> None:
    assert [fitted_step(step, 7, elapsed=0) for step in range(7)] == list(range(7))


def test_with_a_budget_the_schedule_stands_where_the_clock_does() -> None:
    assert fitted_step(10, 1000, elapsed=0.5) == 500
    assert fitted_step(900, 1000, elapsed=0.5) == 900  # the steps end first
    assert fitted_step(10, 1000, elapsed=1.0) == 999
    assert fitted_step(10, 1000, elapsed=1.5) == 999


@pytest.mark.parametrize("every", [1e-320, 0.05])
def test_a_drop_at_every_part_of_a_step_is_refused(every: float) -> None:
    with pytest.raises(ValueError, match="less than one step"):
        SCHEDULES["step"](100, 10, every_epochs=every)
