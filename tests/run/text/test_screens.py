"""What a person reads at the start and at the end of a run."""

import re
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain, interrupt

BLOCK = 2 * 64 + 33 * 96 + 33 * 32 + 33 * 128 + 129 * 32  # norms, qkv, proj and MLP at width 32
PARAMETERS = 49 * 32 + 18 * 32 + 2 * BLOCK + 64 + 33 * 4  # patches, tokens, blocks, norm, head


def rows(text: str) -> dict[str, str]:
    """The named rows of the start screen."""
    return dict(re.findall(r"^(model|data|device|steps|lr|run|resume|teacher) +(.*)$", text, re.M))


def test_the_start_says_what_is_trained_on_what_and_where(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--run-dir", "run", "train.max_minutes=30")
    assert rows(done.err) == {
        "model": f"vit_ti, {PARAMETERS:,} parameters",
        "data": "fake, 4 classes, 70 training and 18 validation images, 16 x 16 pixels",
        "device": rows(done.err)["device"],
        "steps": "6 of 32 images, 3 per epoch, or 30 minutes",
        "lr": "at most 0.001 (adamw, cosine)",
        "run": "run",
    }
    assert re.fullmatch(r"CPU, \d+ threads? \(\w+\), fp32", rows(done.err)["device"])


def test_a_wait_for_the_compiler_is_said_before_it_begins(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    done = vtrain("fit", small_run, "train.max_steps=1", "train.compile=true")
    assert rows(done.err)["device"].endswith(", fp32, compiled in the first step")


def test_parts_that_are_not_trained_and_a_resume_are_said(small_run: Path, vtrain: Vtrain) -> None:
    command = ("fit", small_run, "--run-dir", "run", "model.freeze=backbone")
    done = vtrain(*command, "train.max_steps=3")
    assert rows(done.err)["model"].endswith(f"parameters, {33 * 4:,} trained")
    interrupt("run")
    again = vtrain(*command, "--resume")
    assert rows(again.err)["resume"] == "step-00000003.pt: 3 steps, 1 epoch done"


@pytest.mark.parametrize(("name", "quoted"), [("run", "run"), ("a run", "'a run'")])
def test_the_end_says_what_was_reached_and_what_to_type(
    small_run: Path, vtrain: Vtrain, name: str, quoted: str
) -> None:
    done = vtrain("fit", small_run, "--run-dir", name, "logging.tensorboard=true")
    lines = done.err.splitlines()
    end = lines[next(i for i, line in enumerate(lines) if line.startswith("done in")) :]
    assert re.fullmatch(r"done in 0:\d\d  val/loss \S+  val/top1 (\S+)", end[0])
    assert re.fullmatch(r"best.pt has val/top1 \d\.\d{4}, of epoch [12]", end[1])
    weak = r"'class_\d' \d+ of \d+"
    assert re.fullmatch(rf"weakest {weak} right(, {weak}){{0,2}}", end.pop(2))
    assert re.fullmatch(r"verdict \S+: at the end \d+% of 70 training images are right, .*", end[2])
    if "under-fitted" in end.pop(2):
        assert end.pop(4) == f"  vtrain fit {quoted} --resume train.epochs=4"
    assert end[2:] == [
        f"results in {name}",
        "next:",
        f"  vtrain report {quoted}",
        f"  vtrain eval --ckpt {quoted}",
        f"  vtrain predict IMAGE --ckpt {quoted}",
        f"  tensorboard --logdir {quoted}",
    ]


def test_tensorboard_is_not_named_where_it_was_not_written(small_run: Path, vtrain: Vtrain) -> None:
    assert "tensorboard --logdir" not in vtrain("fit", small_run).err
