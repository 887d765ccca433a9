import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.checkpoints import small_checkpoint
from vtrain.callbacks.saver import Saver
from vtrain.engine.state import TrainState
from vtrain.files.store import CheckpointStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def state() -> TrainState:
    model = nn.Linear(2, 2)
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1))


def saver(folder: Path, clock: Clock, metric: str = "val/top1", **kwargs: Any) -> Saver:
    arguments = {"every_minutes": None, "every_steps": None, **kwargs}
    return Saver(
        CheckpointStore(folder),
        partial(replace, small_checkpoint()),
        metric,
        clock=clock,
        **arguments,
    )


def saved_steps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*.pt"))


def test_saves_come_every_so_many_steps_but_not_at_an_epochs_end(tmp_path: Path) -> None:
    part, run = saver(tmp_path, Clock(), every_steps=2), state()
    for step in range(1, 7):
        run.step, run.epoch_step = step, step % 6
        part.on_step_end(run)
    assert saved_steps(tmp_path) == ["step-00000002.pt", "step-00000004.pt"]


def test_saves_come_every_so_many_minutes(tmp_path: Path) -> None:
    clock = Clock()
    part, run = saver(tmp_path, clock, every_minutes=10), state()
    for step in range(1, 5):
        clock.now += 350
        run.step = run.epoch_step = step
        part.on_step_end(run)
    assert saved_steps(tmp_path) == ["step-00000002.pt", "step-00000004.pt"]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("val/top1", [0.1, 0.3, 0.2, 0.3], 2),
        ("val/loss", [0.3, 0.1, 0.2, 0.1], 2),
        ("val/top1", [math.nan, 0.1, math.inf, 0.05], 2),
    ],
)
def test_best_is_the_first_of_the_best_finite_values(
    tmp_path: Path, metric: str, values: list[float], best: int
) -> None:
    part, run = saver(tmp_path, Clock(), metric), state()
    for step, value in enumerate(values, start=1):
        run.step = step
        part.on_eval_end(run, {metric: value})
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    assert content["state"]["step"] == best
    assert run.best == values[best - 1]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["state"]["step"] == 4


def test_a_worse_value_after_a_resume_does_not_replace_the_best(tmp_path: Path) -> None:
    part, run = saver(tmp_path, Clock()), state()
    run.step = 1
    part.on_eval_end(run, {"val/top1": 0.8})
    resumed = state()
    resumed.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["state"])
    resumed.step = 2
    saver(tmp_path, Clock()).on_eval_end(resumed, {"val/top1": 0.7})
    assert torch.load(tmp_path / "best.pt", weights_only=True)["state"]["step"] == 1


def test_the_end_is_saved_once(tmp_path: Path) -> None:
    part, run = saver(tmp_path, Clock()), state()
    run.step = run.evaluated_step = 3
    part.on_eval_end(run, {"val/top1": 0.8})
    before = saved_steps(tmp_path)
    part.on_epoch_end(run)
    part.on_fit_end(run)
    assert saved_steps(tmp_path) == before
    run.step = 4
    part.on_fit_end(run)
    assert len(saved_steps(tmp_path)) == 2


def test_steps_apart_from_the_run_leave_its_counters_and_its_guard_alone() -> None:
    run = state()
    run.step, run.rows = 5, 3
    other = run.apart()
    assert (other.model, other.optimizer, other.step) == (run.model, run.optimizer, 5)
    other.step += 1
    other.loss.add(torch.tensor(2.0))
    assert (run.step, run.loss.count) == (5, 0)
    assert other.guard is not run.guard
