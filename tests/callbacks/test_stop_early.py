"""Early stopping of whole runs."""

import json
from datetime import datetime
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain
from vtrain.callbacks.saver import Saver

STOPPING = "train.early_stopping={metric: val/top1, mode: max, patience: 2, min_gain: 0.9}"
"""A gain that no run makes: the first evaluation is the best, and the third ends the run."""


def test_a_run_without_gains_ends_early_and_says_why(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--run-dir", "run", "train.epochs=9", STOPPING)
    assert done.code == 0
    assert "stopped early: val/top1 was not better than" in done.err
    status = json.loads(Path("run/status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 9)
    assert status["reason"] == json.loads(Path("run/summary.json").read_text())["stop_reason"]
    again = vtrain("fit", small_run, "--run-dir", "run", "--resume", "train.epochs=9", STOPPING)
    assert "already complete" in again.err


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_patience_goes_on_counting_after_a_kill(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    saves = []

    def dying(self: Saver, *arguments: object, **more: bool) -> None:
        original(self, *arguments, **more)
        saves.append(1)
        if len(saves) == killed_after:
            raise RuntimeError("killed after a save")

    original = Saver._save
    with monkeypatch.context() as patch:
        patch.setattr(Saver, "_save", dying)
        command = ("fit", small_run, "--run-dir", "run", "--resume", "train.epochs=9", STOPPING)
        assert vtrain(*command).code == 1
    assert vtrain(*command).code == 0
    assert json.loads(Path("run/status.json").read_text())["step"] == 9
    state = torch.load("run/last.pt", weights_only=True)["state"]
    assert state["early_stopping"]["stale"] == 2


def test_without_the_key_a_run_trains_to_its_end(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "optimizer.lr=1e-9").code == 0
    status = json.loads(Path("run/status.json").read_text())
    assert datetime.fromisoformat(status.pop("time")).tzinfo is not None
    assert status == {"state": "finished", "code": 0, "step": 6, "reason": None}


def test_a_direction_must_be_said(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "train.early_stopping={metric: val/loss, patience: 2}")
    assert done.code == 2
    assert "missing key 'train.early_stopping.mode'" in done.err
