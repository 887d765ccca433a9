"""`train.precision: bf16_full` in whole runs: it learns, stops, goes on and is evaluated as any."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tests.conftest import Result
from vtrain.callbacks.base import Callbacks
from vtrain.config import load_config
from vtrain.distributed import Rank
from vtrain.run.parts import Parts, build_parts, build_trainer

FULL = "train.precision=bf16_full"
DIGITS = (
    "model={name: vit_ti, patch_size: 2, embed_dim: 64, depth: 2, num_heads: 2}",
    "data={name: digits, image_size: 8}",
    "augment={crop: none, horizontal_flip: 0}",
    "optimizer={name: adamw, lr: 5e-3}",
    "schedule={name: constant}",
    "model.drop_path_rate=0.1",
)

Vtrain = Callable[..., Result]


def trained(
    path: Path, *overrides: str, steps: int, state: Any = None
) -> tuple[Parts, list[float]]:
    """Make steps on the CPU, after those of `state`; return the parts and the loss of each."""
    parts = build_parts(load_config(path, overrides), torch.device("cpu"), Rank())
    if state is not None:
        parts.state.load_state_dict(state)
    config = load_config(path, overrides)
    trainer = build_trainer(config, parts, Rank(), Callbacks())
    losses = []
    while parts.state.step < steps:
        start = parts.state.epoch_step
        for batch in parts.train_loader.batches(parts.state.epoch, start=start):
            before = float(parts.state.loss.total)
            trainer.train_step(batch)
            losses.append(float(parts.state.loss.total) - before)
            if parts.state.step == steps:
                break
    return parts, losses


def tensors(parts: Parts) -> list[Tensor]:
    return [x for x in tree_leaves(parts.state.state_dict()) if isinstance(x, Tensor)]


def test_the_losses_of_twenty_steps_are_those_of_autocast_up_to_rounding(small_run: Path) -> None:
    (_, full), (_, auto) = (
        trained(small_run, *DIGITS, f"train.precision={name}", steps=20)
        for name in ("bf16_full", "bf16")
    )
    assert full != auto
    assert full == pytest.approx(auto, rel=0.03)


def test_what_is_kept_and_saved_is_fp32_under_its_own_names(small_run: Path) -> None:
    (full, _), (plain, _) = (
        trained(small_run, f"train.precision={name}", steps=2) for name in ("bf16_full", "fp32")
    )
    assert list(full.state.state_dict()["model"]) == list(plain.state.state_dict()["model"])
    assert {x.dtype for x in tensors(full)} == {torch.float32}
    assert {x.grad.dtype for x in full.model.parameters() if x.grad is not None} == {torch.float32}


def test_two_runs_and_a_resumed_one_have_the_same_bits(small_run: Path) -> None:
    options = (FULL, "model.drop_path_rate=0.5", "train.accum_steps=2")
    whole, _ = trained(small_run, *options, steps=6)
    again, _ = trained(small_run, *options, steps=6)
    first, _ = trained(small_run, *options, steps=4)
    second, _ = trained(small_run, *options, steps=6, state=first.state.state_dict())
    for other in (again, second):
        for a, b in zip(tensors(whole), tensors(other), strict=True):
            assert torch.equal(a, b)


def test_pieces_of_a_batch_change_the_weights_by_rounding_alone(small_run: Path) -> None:
    options = (FULL, "optimizer={name: sgd, lr: 0.1}")
    whole, _ = trained(small_run, *options, steps=3)
    cut, _ = trained(small_run, *options, "train.accum_steps=4", steps=3)
    start, _ = trained(small_run, *options, steps=0)
    for a, b, before in zip(*(p.model.parameters() for p in (whole, cut, start)), strict=True):
        assert (a - b).norm() <= 0.05 * (a - before).norm() + 1e-7


def test_two_heads_learn_from_a_teacher(small_run: Path, vtrain: Vtrain) -> None:
    """The teacher is no part of what bf16_full casts: it runs under autocast."""
    assert vtrain("fit", small_run, "train.max_steps=1", "--run-dir", "teacher").code == 0
    student = ("model.name=deit_ti_distilled", FULL, "train.compile=false")
    lesson = "train.distillation={teacher: teacher, kind: soft}"
    before, _ = trained(small_run, *student, lesson, steps=0)
    after, losses = trained(small_run, *student, lesson, steps=3)
    assert len(losses) == 3
    for name in ("head.weight", "head_dist.weight"):
        a, b = (parts.model.get_parameter(name) for parts in (before, after))
        assert not torch.equal(a, b)


def test_eval_and_predict_repeat_the_evaluation_of_fit(small_run: Path, vtrain: Vtrain) -> None:
    """All three evaluate under autocast, as with bf16."""
    assert vtrain("fit", small_run, FULL, "--run-dir", "run").code == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    expected = [row for row in rows if "val/loss" in row][-1]
    for precision in ("bf16_full", "bf16"):
        override = f"train.precision={precision}"
        done = vtrain("eval", "--ckpt", "run/last.pt", override, "--json")
        assert done.code == 0, done.err
        given = json.loads(done.out)
        assert {name: given[name] for name in ("val/loss", "val/top1", "val/top5")} == {
            name: expected[name] for name in ("val/loss", "val/top1", "val/top5")
        }


@pytest.mark.parametrize("command", ["fit", "check"])
def test_weights_in_parts_are_refused(small_run: Path, vtrain: Vtrain, command: str) -> None:
    done = vtrain(command, small_run, FULL, "train.parallel=fsdp")
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("vtrain: ")]
    assert "bf16_full casts whole weights" in line
    assert "train.precision" in line


def test_there_is_no_such_thing_for_fp16(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", small_run, "train.precision=fp16_full")
    assert done.code == 2
    assert "'bf16_full'" in done.err


@pytest.mark.dist
def test_two_processes_give_the_weights_of_one(small_run: Path) -> None:
    """Up to the rounding of gradients that are added up in another order."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    sgd = "optimizer={name: sgd, lr: 0.1}"
    options = [FULL, sgd, "train.accum_steps=2"]
    for run, before in (("one", []), ("two", torchrun)):
        done = subprocess.run(
            [sys.executable, *before, "-m", "vtrain", "fit", small_run, *options, "--run-dir", run],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
    start, _ = trained(small_run, sgd, steps=0)
    one, two = (
        torch.load(Path(run, "last.pt"), weights_only=True)["state"]["model"]
        for run in ("one", "two")
    )
    for name, before in start.model.state_dict().items():
        assert (one[name] - two[name]).norm() <= 0.05 * (one[name] - before).norm() + 1e-7, name
