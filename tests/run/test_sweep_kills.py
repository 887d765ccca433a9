"""A sweep is killed at random moments, and ends with the trials that it would have had anyway."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.harness import Command, run

FILE = """\
config: vit_digits
space:
  optimizer.lr: {low: 3e-4, high: 3e-3, log: true}
  augment.mixup: {low: 0.0, high: 0.4}
trials: 12
fixed: {model.depth: 1, model.embed_dim: 48, train.epochs: 10, logging.tensorboard: false}
"""


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.log").read_text().splitlines()]


def running_fits(folder: Path) -> list[int]:
    """Return the processes of runs below a folder that hold their lock now."""
    found = []
    for lock in folder.glob("*/.lock"):
        with suppress(OSError, ValueError, KeyError):
            pid = json.loads(lock.read_text())["pid"]
            if f"/{folder.name}/{lock.parent.name}\0" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found


def check_whole(folder: Path, trials: int) -> dict[str, Any]:
    """Check that each trial was finished once, and that its run lacks and repeats no row."""
    results: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    assert [trial["state"] for trial in results["trials"]] == ["finished"] * trials
    ends = [row["trial_id"] for row in journal(folder) if row.get("datetime_complete")]
    assert sorted(ends) == list(range(trials))
    for number in range(trials):
        rows = [
            json.loads(r) for r in (folder / f"{number}/metrics.jsonl").read_text().splitlines()
        ]
        evaluated = [row["epoch"] for row in rows if "val/top1" in row]
        assert evaluated == list(range(1, len(evaluated) + 1))
        assert max(row["val/top1"] for row in rows if "val/top1" in row) == pytest.approx(
            results["trials"][number]["value"]
        )
    return results


def check_same_bits(one: Path, other: Path) -> None:
    a, b = (
        torch.load(run / "last.pt", weights_only=True)["state"]["model"] for run in (one, other)
    )
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_twelve_trials_survive_ten_kills(tmp_path: Path) -> None:
    """About half an hour of one core."""
    draw = random.Random(0)
    (tmp_path / "digits.yaml").write_text(FILE)
    folder = tmp_path / "runs/digits"
    arguments = ("sweep", "digits.yaml", "--workers", "2")
    command, kills = Command(tmp_path, *arguments), []
    while len(kills) < 10:
        # Half of them while runs train, the others at any time, also while all begin again.
        is_trial = draw.random() < 0.5
        if is_trial:
            command.until(lambda: bool(running_fits(folder)), timeout=300)
        time.sleep(draw.uniform(0.5, 6))
        assert command.alive(), command.wait()
        fits = running_fits(folder)
        if is_trial and fits:
            pid = draw.choice(fits)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            kills.append("trial")
        else:
            command.send(signal.SIGKILL)
            command.wait()
            kills.append("sweep")
            command = Command(tmp_path, *arguments)
    done = command.wait(timeout=3000)
    assert done.code == 0, done.err
    assert {"trial", "sweep"} == set(kills)
    results = check_whole(folder, 12)
    again = run(tmp_path, "fit", "runs/digits/best.yaml", "--run-dir", "again")
    assert again.code == 0, again.err
    check_same_bits(tmp_path / "again", folder / str(results["best"]))


@pytest.mark.study
@pytest.mark.timeout(3600)
def test_two_sweeps_share_one_storage(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(FILE.replace("trials: 12", "trials: 6"))
    both = [Command(tmp_path, "sweep", "digits.yaml") for _ in range(2)]
    done = [command.wait(timeout=1500) for command in both]
    assert [one.code for one in done] == [0, 0]
    check_whole(tmp_path / "runs/digits", 6)
    for one in done:
        assert 1 <= one.err.count("finished val/top1") < 6
    assert sum(one.err.count("finished val/top1") for one in done) == 6
