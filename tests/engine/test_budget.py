"""Runs that end when their time is over."""

import copy
import json
from pathlib import Path

import pytest

from tests.engine.test_trainer import Loader, Recorder, StopAt, model, trainer
from tests.harness import Vtrain
from vtrain.engine.budget import TimeBudget
from vtrain.engine.trainer import Trainer
from vtrain.run.build.optim import fitted


class Clock:
    """Each look takes a second."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def timed(seconds: float, *callbacks: Recorder | StopAt, total_steps: int = 100) -> Trainer:
    part = trainer(model(), *callbacks, total_steps=total_steps)
    part.state.budget = TimeBudget(seconds / 60, Clock())
    part.schedule = fitted(lambda step: 1 - step / 100, 100, part.state)
    return part


def test_the_run_ends_with_its_time_evaluated_and_at_the_end_of_the_schedule() -> None:
    recorder = Recorder()
    part = timed(10, recorder)
    part.fit(Loader())
    assert part.state.step == 10
    assert recorder.events[-3:] == [("log", 10, 3), ("eval", 10, 3), ("end", 10, 3)]
    # A step of ten uses a tenth of the time, and of the schedule, a hundred steps long.
    assert recorder.lrs == pytest.approx([0.1 * (1 - step / 10) for step in range(10)])
    assert part.state.stop_reason == "the time of train.max_minutes is over"


def test_a_run_that_is_quick_enough_makes_all_its_steps() -> None:
    part = timed(1000, total_steps=6)
    part.fit(Loader())
    assert part.state.step == 6
    assert part.state.stop_reason is None


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_time_that_was_spent_before_a_restart_counts_and_the_pause_does_not(stop: int) -> None:
    first = timed(10, StopAt(stop))
    first.fit(Loader())
    recorder = Recorder()
    second = timed(10)
    second.callbacks = [recorder]
    assert second.state.budget is not None
    second.state.budget.clock = Clock(12345)
    second.state.load_state_dict(copy.deepcopy(first.state.state_dict()))
    second.fit(Loader())
    assert second.state.step == 10
    assert len(recorder.lrs) == 10 - stop


def test_a_whole_run_says_why_it_ended(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--run-dir", "run", "train.max_minutes=1e-6")
    assert done.code == 0
    assert "stopped early: the time of train.max_minutes is over" in done.err
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 1]
    assert Path("run/best.pt").exists()


def test_no_time_at_all_is_refused(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "train.max_minutes=0")
    assert done.code == 2
    assert "train.max_minutes is 0" in done.err
