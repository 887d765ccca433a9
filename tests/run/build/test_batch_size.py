"""The largest batch that fits, a lack of memory, and the rate that goes with the batch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from tests.harness import Vtrain, interrupt
from vtrain.config import Config, load_config
from vtrain.models.vit import ViT
from vtrain.run.build import batch_size
from vtrain.run.build.batch_size import SHARE, estimated, largest, profile_run, tried
from vtrain.run.build.model import build_model
from vtrain.run.build.optim import build_optimizer
from vtrain.run.build.resolve import resolve


@pytest.mark.parametrize(
    ("limit", "most", "expected"),
    [(100, 1000, 64), (128, 1000, 128), (100, 50, 32), (100, 64, 64), (1, 9, 1), (0, 9, 0)],
)
def test_the_largest_power_of_two_that_fits_is_found(limit: int, most: int, expected: int) -> None:
    assert largest(lambda size: size <= limit, most) == expected


def memory(config: Config, images: int) -> int:
    """Estimate the bytes of a step of `images` images."""
    with torch.device("meta"):
        model = build_model(config, 4)
        optimizer = build_optimizer(config, model)
    return profile_run(resolve(config), model, optimizer, images).memory.total


@pytest.mark.parametrize("accum_steps", [1, 4])
def test_what_fits_is_what_the_free_memory_holds(
    small_run: Path, monkeypatch: pytest.MonkeyPatch, accum_steps: int
) -> None:
    config = load_config(small_run, [f"train.accum_steps={accum_steps}", "train.batch_size=8"])
    monkeypatch.setattr(batch_size, "free_memory", lambda: memory(config, 100) / SHARE)
    fits = estimated(resolve(config))
    assert fits(99 * accum_steps)
    assert not fits(101 * accum_steps)


@pytest.mark.parametrize(
    ("optimizer", "states"), [("adamw", 2), ("lamb", 2), ("lion", 1), ("sgd", 1)]
)
def test_the_optimizers_own_memory_counts(small_run: Path, optimizer: str, states: int) -> None:
    config = load_config(small_run, [f"optimizer.name={optimizer}"])
    with torch.device("meta"):
        model = build_model(config, 4)
        parts = build_optimizer(config, model)
    found = profile_run(resolve(config), model, parts, 1)
    assert found.memory.optimizer == pytest.approx(4 * states * found.parameters, rel=0.01)


def test_a_run_says_which_batch_size_it_chose_and_keeps_it(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("fit", small_run, "--run-dir", "run", "train.batch_size=auto")
    room = memory(load_config(small_run), 20) / SHARE
    monkeypatch.setattr(batch_size, "free_memory", lambda: room)
    done = vtrain(*command, "train.max_steps=1")
    assert "16 images, the largest power of two" in done.err
    assert yaml.safe_load(Path("run/config.yaml").read_text())["train"]["batch_size"] == 16
    interrupt("run")
    monkeypatch.setattr(batch_size, "free_memory", lambda: 2 * room)
    done = vtrain(*command, "--resume")
    assert (done.code, "epoch 2/2" in done.err) == (0, True)
    assert "10 (5 per epoch)" in vtrain("check", "run/config.yaml").out


def test_where_not_even_one_image_fits_the_run_does_not_start(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "free_memory", lambda: 0)
    done = vtrain("fit", small_run, "train.batch_size=auto")
    assert done.code == 6
    assert "not even one image fits (train.batch_size)" in done.err


def test_parts_of_a_model_cannot_be_tried_alone(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", small_run, "train.batch_size=auto", "train.parallel=fsdp")
    assert done.code == 2
    assert "takes train.parallel=ddp" in done.err


def running_out(above: int, training: bool) -> Callable[[ViT, Tensor], Tensor]:
    """Return a forward pass that has memory for so many images only, in training or evaluation."""
    original = ViT.forward

    def forward(self: ViT, images: Tensor) -> Tensor:
        if len(images) > above and self.training == training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, images)

    return forward


def test_a_gpu_is_tried_by_real_steps(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ViT, "forward", running_out(above=5, training=True))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *_: None)
    config = load_config(small_run, ["train.accum_steps=2", "train.batch_size=8"])
    fits = tried(resolve(config))
    assert [fits(count) for count in (1, 10, 11, 10)] == [True, True, False, True]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            True,
            "out of memory at train.batch_size 32 (16 images at once in each process): keep it "
            "with train.accum_steps=4 or train.activation_checkpointing=true, "
            "or take a smaller one",
        ),
        (False, "out of memory at train.eval_batch_size 32: take a smaller one"),
    ],
)
def test_a_lack_of_memory_names_the_batch_size_and_what_to_try(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, training: bool, message: str
) -> None:
    monkeypatch.setattr(ViT, "forward", running_out(above=0, training=training))
    done = vtrain("fit", small_run, "--run-dir", "run", "train.accum_steps=2")
    assert done.code == 6
    (line,) = [line for line in done.err.splitlines() if line.startswith("vtrain: ")]
    assert line.startswith(f"vtrain: error: {message}")
    assert ("train.accum_steps=4" in line) == training
    assert json.loads(Path("run/status.json").read_text())["code"] == 6


def test_a_lack_of_memory_on_a_cpu_is_named_too(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ViT, "forward", lambda *_: torch.empty(1 << 50))
    done = vtrain("fit", small_run)
    assert done.code == 6
    assert "out of memory at train.batch_size 32" in done.err


def rates(run: str) -> list[float]:
    rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [row["train/lr"] for row in rows if "train/lr" in row]


def test_the_rate_follows_the_batch_size_only_where_that_is_asked_for(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "plain")
    scaled = vtrain("fit", small_run, "--run-dir", "scaled", "optimizer.lr_base_size=256")
    assert rates("scaled") == pytest.approx([rate * 32 / 256 for rate in rates("plain")])
    assert "0.000125, which is 0.001 * 32 / 256" in scaled.err
