"""Runs that go on: by their folder, longer than planned, elsewhere, and as errors advise."""

import json
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.data.pictures import over_photographs
from tests.harness import Result, Vtrain, interrupt
from vtrain.engine.trainer import Trainer
from vtrain.files.atomic import PREFIX, SUFFIX
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.run.resume import went_wrong


def status(run: str = "run") -> dict[str, Any]:
    return RunFolder(Path(run)).read_status()


def weights(run: str) -> dict[str, torch.Tensor]:
    return Checkpoint.load(Path(run, "last.pt")).weights


def same_weights(one: str, other: str) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def pasted(vtrain: Vtrain, err: str) -> Result:
    """Run the command that a screen names after `go on with: `, or in backquotes."""
    command = err.partition("go on with: ")[2] or err.partition("`")[2].partition("`")[0]
    program, *arguments = shlex.split(command.splitlines()[0])
    assert program == "vtrain"
    return vtrain(*arguments)


@pytest.fixture
def photos(small_run: Path) -> Path:
    """The config of a small run over files of its own, two steps in each epoch."""
    for split, count in (("train", 64), ("val", 8)):
        for number in range(count):
            path = Path("photos", split, f"class_{number % 2}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (3 * number, 0, 0)).save(path)
    small_run.write_text(over_photographs(small_run.read_text()))
    return small_run


def stopped(vtrain: Vtrain, at: int, *command: object) -> Result:
    """Run a command that gets SIGTERM after so many steps of its own."""
    original, count = Trainer.train_step, 0

    def step(self: Trainer, *arguments: Any) -> None:
        nonlocal count
        original(self, *arguments)
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        return vtrain(*command)


def test_what_a_stop_says_can_be_pasted_and_ends_in_the_same_bits(
    small_run: Path, vtrain: Vtrain
) -> None:
    typed = ("train.epochs=3", "data.num_images=50", "seed=3")
    assert vtrain("fit", small_run, *typed, "--run-dir", "whole").code == 0
    first = stopped(vtrain, 2, "fit", small_run, *typed, "--run-dir", "a run")
    assert first.code == 128 + signal.SIGTERM
    assert "go on with: vtrain fit 'a run' --resume" in first.err
    again = stopped(vtrain, 2, "fit", small_run, "--run-dir", "a run", "--resume")
    assert again.code == 128 + signal.SIGTERM  # what was typed first is remembered
    last = pasted(vtrain, again.err)
    assert last.code == 0
    assert "change " not in last.err
    assert same_weights("whole", "a run")
    assert not Path("runs").exists()


def test_a_finished_run_goes_on_for_more_epochs_and_says_how(
    small_run: Path, vtrain: Vtrain
) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run").code == 0
    done = vtrain("fit", "run", "--resume")
    assert (done.code, done.out) == (0, "")
    assert "already complete; see run/summary.json" in done.err
    more = vtrain("fit", "run", "--resume", "train.epochs=4")
    assert more.code == 0
    assert "change  train.epochs 2 -> 4" in more.err
    # 12 steps, 3 of them warm-up: of the cosine's 8 parts 3 are over at step 6.
    rate = 1e-3 * (1 + torch.tensor(3 / 8 * torch.pi).cos().item()) / 2
    assert f"lr      goes on at {rate:.4g}, as in a run of 4 epochs" in more.err
    assert json.loads(Path("run/summary.json").read_text())["epoch"] == 4
    assert (status()["state"], status()["step"]) == ("finished", 12)
    assert "already complete" in vtrain("fit", small_run, "--run-dir", "run", "--resume").err


def test_what_a_finished_run_says_can_be_pasted(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=4").code == 0
    done = vtrain("fit", "run", "--resume")
    assert "train.max_steps ended it; to train on, for example: vtrain fit run" in done.err
    command = done.err.partition("for example: ")[2].splitlines()[0]
    assert vtrain(*shlex.split(command)[1:]).code == 0
    assert status()["step"] == 6


def test_what_a_finished_run_proposes_keeps_what_was_typed(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run").code == 0
    typed = ("optimizer.lr=0.5", "data.num_workers=0", "train.epochs=1")
    refused = vtrain("fit", "run", "--resume", *typed)
    command = refused.err.partition("train on with `")[2].partition("`")[0]
    assert "optimizer.lr=0.5" in command
    assert vtrain(*shlex.split(command)[1:]).code == 0
    changed = json.loads(Path("run/env.json").read_text())["overridden"]
    assert {"optimizer.lr", "data.num_workers", "train.epochs"} <= set(changed)
    assert json.loads(Path("run/summary.json").read_text())["epoch"] == 4


def test_what_a_kill_leaves_in_a_finished_run_is_swept(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1").code == 0
    left = Path("run", f"{PREFIX}predictions.npz{SUFFIX}")
    left.write_bytes(b"half")
    assert vtrain("fit", "run", "--resume").code == 0
    assert not left.exists()


def test_two_limits_that_end_a_run_together_are_both_lifted(
    small_run: Path, vtrain: Vtrain
) -> None:
    steps = ("train.epochs=1", "train.max_steps=3")
    assert vtrain("fit", small_run, "--run-dir", "run", *steps).code == 0
    done = vtrain("fit", "run", "--resume")
    command = done.err.partition("for example: vtrain ")[2].split()
    longer = vtrain(*command)
    assert longer.code == 0, longer.err
    assert '"epoch": 2' in Path("run/summary.json").read_text()


def test_a_first_part_and_the_rest_are_the_whole(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "whole").code == 0
    for limit in (["train.max_steps=2"], ["train.max_steps=4"], []):
        assert vtrain("fit", small_run, "--run-dir", "run", "--resume", *limit).code == 0
    assert same_weights("whole", "run")


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["optimizer.lr=0.5"], 2, "finished, and optimizer.lr would change nothing (run)"),
        (["train.epochs=1"], 2, "finished, and train.epochs would change nothing (run)"),
        (["data.num_images=9"], 2, "other values of data.num_images (run)"),
        (["optimizer.lr=0.5", "model.depth=3"], 2, "other values of model.depth (run)"),
        (["train.epochs=4", "model.depth=3"], 2, "other values of model.depth (run)"),
        (["train.max_steps=1"], 2, "finished, and train.max_steps would change nothing (run)"),
        (["data.num_workers=0"], 0, "the run is finished, so data.num_workers changes nothing"),
        (
            ["data.num_workers=0", "optimizer.lr=0.5"],
            2,
            "finished, and data.num_workers, optimizer.lr would change nothing (run)",
        ),
        ([], 0, "the run is already complete; see run/summary.json"),
    ],
)
def test_nothing_typed_for_a_finished_run_is_passed_over(
    small_run: Path, vtrain: Vtrain, changes: list[str], code: int, message: str
) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run").code == 0
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    done = vtrain("fit", "run", "--resume", *changes)
    assert done.code == code
    assert message in done.err
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


STOPPING = "train.early_stopping={metric: val/top1, mode: max, patience: 1, min_gain: 0.9}"


@pytest.mark.parametrize(
    ("end", "change"),
    [
        (STOPPING, "train.early_stopping=null"),
        (STOPPING, "train.early_stopping.patience=9"),
        (STOPPING, "train.early_stopping.metric=val/loss"),
        ("train.max_minutes=1e-9", "train.max_minutes=9"),
        ("train.max_minutes=1e-9", "train.max_minutes=null"),
    ],
)
def test_a_run_that_ended_early_goes_on_when_its_limit_is_raised(
    small_run: Path, vtrain: Vtrain, end: str, change: str
) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.epochs=4", end).code == 0
    early = status()["step"]
    assert early < 12
    assert "already complete" in vtrain("fit", "run", "--resume").err
    assert vtrain("fit", "run", "--resume", change, "data.num_workers=0").code == 0
    assert status()["step"] > early


def test_a_rule_and_a_budget_may_come_later(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=2").code == 0
    more = ("train.max_minutes=9", STOPPING.replace("patience: 1", "patience: 7"))
    assert vtrain("fit", small_run, "--run-dir", "run", "--resume", *more).code == 0
    assert status()["step"] == 6


def test_fewer_epochs_than_are_begun_are_refused(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=4").code == 0
    interrupt("run")
    done = vtrain("fit", "run", "--resume", "train.epochs=1")
    assert done.code == 2
    assert "train.epochs=1 is less than the 2 that are begun" in done.err
    ended = vtrain("fit", "run", "--resume", "train.max_steps=1")  # as the message says
    assert (ended.code, status()["step"]) == (0, 4)


def test_data_may_move_and_must_be_the_same(photos: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", photos, "--run-dir", "whole").code == 0
    assert vtrain("fit", photos, "--run-dir", "run", "train.max_steps=3").code == 0
    Path("photos").rename("moved")
    gone = vtrain("fit", photos, "--run-dir", "run", "--resume")
    assert gone.code == 3
    assert "if it has moved, add data.root=PLACE" in gone.err
    assert status()["state"] == "finished"  # a start that fails changes nothing
    moved = vtrain("fit", photos, "--run-dir", "run", "--resume", "data.root=moved")
    assert moved.code == 0
    assert f"data.root {Path('photos').absolute()} -> {Path('moved').absolute()}" in moved.err
    assert same_weights("whole", "run")
    shutil.copytree("moved", "other")
    Path("other/train/class_0/0.png").unlink()
    interrupt("run")
    done = vtrain("fit", "run", "--resume", "data.root=other", "train.epochs=4")
    assert done.code == 3
    assert "the images are not those the run began with: train: 64 then, 63 now" in done.err


def test_a_run_on_another_device_is_the_same(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "whole", "train.device=cpu").code == 0
    command = ("fit", small_run, "--run-dir", "run", "train.device=cpu", "train.max_steps=2")
    assert vtrain(*command).code == 0
    done = vtrain("fit", "run", "--resume", "train.device=auto", "train.max_steps=null")
    assert done.code == 0
    assert "train.device cpu -> auto" in done.err
    assert same_weights("whole", "run")


def test_the_weights_to_start_from_are_not_read_again(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "before").code == 0
    more = ("model.pretrained=before/last.pt", "train.max_steps=2")
    assert vtrain("fit", small_run, "--run-dir", "run", *more).code == 0
    shutil.rmtree("before")
    assert vtrain("fit", "run", "--resume", "train.max_steps=null").code == 0


def test_an_image_that_cannot_be_read_costs_itself_as_advised(photos: Path, vtrain: Vtrain) -> None:
    Path("photos/train/class_0/60.png").write_text("no picture")
    more = ("data.cache=none", "data.num_workers=0", "checkpoint.every_steps=1", "seed=4")
    failed = vtrain("fit", photos, "--run-dir", "run", "train.batch_size=8", *more)
    assert failed.code == 3
    assert "go on with: vtrain fit run --resume data.on_bad_image=skip" in failed.err
    assert pasted(vtrain, failed.err).code == 0
    assert (status()["state"], status()["step"]) == ("finished", 16)


def test_a_run_that_diverged_goes_on_from_before_as_advised(
    small_run: Path, vtrain: Vtrain
) -> None:
    more = ("optimizer={name: sgd, lr: 3e3}", "train.grad_clip_norm=null", "train.epochs=9")
    every = (
        "checkpoint.every_steps=1",
        "logging.every_steps=1",
        "checkpoint.keep=9",
        "train.eval_every=9",
    )
    failed = vtrain("fit", small_run, "--run-dir", "run", *more, *every)
    assert failed.code == 7
    step = status()["diverged_at"]
    assert f"not finite at step {step}" in failed.err
    assert "go on with: vtrain fit run --resume optimizer.lr=300" in failed.err
    done = vtrain("fit", "run", "--resume", "optimizer.lr=1e-9")
    assert done.code == 0, done.err
    assert f"step-{step - 1:08d}.pt is of when the run diverged: set aside" in done.err
    assert status()["step"] == 27
    assert "damaged" not in vtrain("verify", "run").out


def test_a_run_that_diverges_again_as_advised_goes_back_further(
    small_run: Path, vtrain: Vtrain
) -> None:
    more = ("optimizer={name: sgd, lr: 3e3}", "train.grad_clip_norm=null", "train.epochs=4")
    every = ("checkpoint.every_steps=1", "checkpoint.keep=9")  # and no loss of the first steps
    done = vtrain("fit", small_run, "--run-dir", "run", *more, *every)
    said = ""
    for _ in range(7):
        said += done.err
        done = pasted(vtrain, done.err) if done.code == 7 else done
    assert done.code == 0, done.err
    assert "step-00000001.pt is of when the run diverged: set aside" in said
    assert "no earlier checkpoint is left: starting anew" in said
    assert status()["step"] == 12


def test_a_start_that_fails_leaves_nothing(photos: Path, vtrain: Vtrain) -> None:
    before = set(Path().iterdir())
    for code, change in [
        (2, "model.depth=x"),
        (2, "schedule={name: step, every_epochs: 1, warmup_epochs: 1}"),
        (3, "data.root=nowhere"),
        (4, "model.pretrained=nowhere.pt"),
    ]:
        for place in ([], ["--run-dir", "run"], ["--run-dir", "a/b/c"], ["--resume"]):
            assert vtrain("fit", photos, change, *place).code == code
            assert set(Path().iterdir()) == before
    shutil.rmtree("photos/train/class_0")
    Path("photos/train/class_0").mkdir()
    assert vtrain("fit", photos).code == 3
    assert set(Path().iterdir()) == before
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    assert vtrain("fit", photos, "--run-dir", "mine").code == 3
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


def test_a_start_that_fails_after_its_first_step_keeps_its_log(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the first step")

    monkeypatch.setattr(Trainer, "train_step", fail)
    assert vtrain("fit", small_run, "--run-dir", "run").code == 1
    assert "in the first step" in Path("run/vtrain.log").read_text()
    assert status()["state"] == "failed"


def test_advice_that_a_run_cannot_follow_says_so(photos: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", photos, "--run-dir", "run", "train.max_steps=2").code == 0
    shutil.rmtree("photos/val")
    done = vtrain("fit", photos, "--run-dir", "run", "--resume")
    assert done.code == 3
    assert "data.val_fraction, e.g. 0.1, in a new run: this one keeps data.val_fraction" in done.err


def test_a_best_value_of_another_metric_does_not_compare(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=3").code == 0
    change = ("checkpoint.best_metric=val/loss", "train.max_steps=null")
    assert vtrain("fit", "run", "--resume", *change).code == 0
    rows = [row["val/loss"] for row in RunFolder(Path("run")).read_metrics() if "val/loss" in row]
    best = json.loads(Path("run/summary.json").read_text())["best"]
    assert best == {"val/loss": rows[-1]}


@pytest.mark.parametrize(
    ("losses", "diverged", "wrong"),
    [
        ({}, 1, 0),  # in the very first step, and nothing is saved
        ({10: 1.4, 20: 1.2, 30: 1.0}, 35, 34),  # all were well: only the last weights are to blame
        ({10: 1.4, 20: 1.2, 30: 90.0}, 35, 21),  # somewhere in 21 .. 30
        ({10: 1.4, 20: 50.0, 30: 90.0}, 35, 11),
        ({10: 1.4, 20: 50.0, 30: 1.1}, 35, 34),  # it came down again
        ({1: 1.4, 2: 1e4, 3: 1e8}, 4, 1),  # each row is of one step: that of step 2 blames 1
        ({1: 1.4, 2: 1e4}, 3, 1),
        ({10: 1.4, 20: 1.2, 40: 1.0}, 35, 34),  # a row of an earlier try
    ],
)
def test_the_weights_that_led_to_a_divergence_are_found_by_the_losses(
    losses: dict[int, float], diverged: int, wrong: int
) -> None:
    rows = [{"step": step, "train/loss": loss} for step, loss in losses.items()]
    assert went_wrong([*rows, {"step": 10, "val/loss": 1e9}], diverged) == wrong


@pytest.mark.parametrize("rate", [1e10, 1e30])
def test_weights_whose_evaluation_is_not_finite_have_diverged(
    small_run: Path, vtrain: Vtrain, rate: float
) -> None:
    more = (
        f"optimizer={{name: sgd, lr: {rate}}}",
        "train.grad_clip_norm=null",
        "schedule=constant",
    )
    done = vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1", *more)
    assert done.code == 7
    assert "val/loss is not finite after step 1: lower optimizer.lr" in done.err
    rows = Path("run/metrics.jsonl").read_text()
    assert [json.loads(row, parse_constant=pytest.fail)["step"] for row in rows.splitlines()] == [1]
    assert not Path("run/last.pt").exists()


def test_a_rate_that_is_infinite_once_scaled_is_refused(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "optimizer.lr=1e308", "optimizer.lr_base_size=1")
    assert done.code == 2
    assert "optimizer.lr (1e+308) is infinite once it is scaled to 32" in done.err


def test_a_run_folder_may_be_where_weights_start(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "before").code == 0
    done = vtrain("check", small_run, "model.pretrained=before")
    assert done.code == 0
    assert "tensors loaded" in done.out
