from collections.abc import Callable

import pytest
import torch

from vtrain.bench.stats import paired_ratio
from vtrain.bench.throughput import ThroughputMeter
from vtrain.engine.state import TrainState


def test_a_short_last_batch_counts_as_many_images_as_it_has() -> None:
    meter = ThroughputMeter(10, 4, 3, torch.device("cpu"), seconds=1, steps=1)
    state = TrainState(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))
    counted = []
    for epoch, epoch_step in [(0, 1), (0, 2), (1, 0), (1, 1)]:
        state.epoch, state.epoch_step = epoch, epoch_step
        counted.append(meter.images_of(state))
    assert counted == [4, 8, 10, 14]


class Clock:
    """A clock that only moves when someone works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def timed(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[Clock, int], float], prefetched: int = 0
) -> ThroughputMeter:
    """Let a run of 4 images a step and a competitor that takes 1 s for them take turns.

    `step` returns the seconds of a step that follows so many steps after the competitor's last;
    both take three times as long in every second stretch of 1000 s.
    """
    clock = Clock()
    monkeypatch.setattr("vtrain.bench.timing.time", clock)
    monkeypatch.setattr("vtrain.bench.throughput.time", clock)
    since = 0

    def spend(seconds: float) -> int:
        clock.now += seconds * (3 if clock.now % 2000 > 1000 else 1)
        return 4

    def competitor() -> int:
        nonlocal since
        since = 0
        return spend(1.0)

    cpu = torch.device("cpu")
    meter = ThroughputMeter(400, 4, 100, cpu, 5000, 10, competitor, prefetched)
    state = TrainState(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))
    meter.on_fit_start(state)
    while state.stop_reason is None:
        spend(step(clock, since))
        since += 1
        state.epoch_step += 1
        meter.on_step_end(state)
        if state.epoch_step == 100:
            state.epoch, state.epoch_step = state.epoch + 1, 0
            meter.on_epoch_end(state)
    return meter


def test_a_machine_that_changes_its_speed_does_not_change_the_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meter = timed(monkeypatch, lambda clock, since: 1.25)
    assert len(meter.rates) == len(meter.competitor_rates) > 100
    assert min(meter.rates) < 0.5 * max(meter.rates)
    ratio = paired_ratio(meter.rates, meter.competitor_rates)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.8, 0.8, 0.8))


def test_what_workers_prepare_while_the_bare_step_runs_is_no_speed_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(clock: Clock, since: int) -> float:
        return 1.0 if since < 3 else 2.0  # 9 images lie ready: 3 steps need not wait for more

    fair = timed(monkeypatch, step, prefetched=9)
    assert paired_ratio(fair.rates, fair.competitor_rates).median == pytest.approx(0.5)
    unfair = timed(monkeypatch, step, prefetched=0)
    assert paired_ratio(unfair.rates, unfair.competitor_rates).median > 0.55
