"""The parts of a run together, as a config puts them together."""

import collections
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.distributed import Rank
from vtrain.errors import ConfigError
from vtrain.registry import OPTIMIZERS
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_graph, build_step, build_trainer

BUSY = (
    "augment={crop: resized, mixup: 0.8, cutmix: 1.0, policy: {name: randaugment}, hue: 0.1, "
    "brightness: 0.4, grey: 0.1, blur: 0.1, erasing: 0.25, erasing_value: pixel}",
    "train.accum_steps=2",
    "train.loss={name: focal, label_smoothing: 0.1, class_weights: balanced}",
    "model.drop_path_rate=0.1",
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.names())
def test_no_step_reads_a_number_back_from_the_device(
    small_run: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """On a GPU each of these calls would wait for all kernels that were launched before.

    The numbers that augmentation draws are made on the host and stay there: they are arrays.
    """
    config = load_config(small_run, [*BUSY, f"optimizer={{name: {optimizer}, lr: 1e-3}}"])
    parts = build_parts(resolve(config))
    trainer = build_trainer(parts, [])
    first, second, third = parts.train_loader.batches(0)
    trainer.train_step(first)  # makes the optimizer's state
    calls: collections.Counter[str] = collections.Counter()
    for name in ("item", "__float__", "__bool__", "__int__", "__index__", "__complex__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *a: object, _o: object = original, _n: str = name) -> object:
            calls[_n] += 1
            return _o(self, *a)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, counted)
    trainer.train_step(second)
    trainer.train_step(third)
    assert calls == {}
    trainer.log()
    assert calls == {"item": 1, "__int__": 1}  # a row has the mean loss, and the first bad step


@pytest.mark.parametrize(
    ("override", "processes", "message"),
    [
        ("train.precision=fp16", 1, "fp16, because each step reads from the GPU"),
        ("optimizer={name: lion, lr: 1e-3}", 1, "an optimizer that is not fused"),
        ("train.activation_checkpointing=true", 1, "activation_checkpointing"),
        ("train.precision=fp32", 2, "2 processes"),
    ],
)
def test_steps_that_need_the_host_are_not_recorded(
    small_run: Path, override: str, processes: int, message: str
) -> None:
    config = load_config(small_run, [override.replace("fp16", "fp32")])
    parts = build_parts(resolve(config))
    precision = "fp16" if "fp16" in override else "fp32"
    cuda = {"device": torch.device("cuda", 0), "precision": precision}  # as if on a GPU
    plan = replace(parts.plan, rank=Rank(world_size=processes), **cuda)
    parts = replace(parts, plan=plan)
    step = build_step(parts, forward=parts.model)
    with pytest.raises(ConfigError, match=f"cannot be recorded with {message}"):
        build_graph(parts, step)


def test_recorded_steps_need_a_gpu(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "train.cuda_graph=true", "train.device=cpu")
    assert done.code == 6
    assert done.err.splitlines()[-1] == (
        "vtrain: error: there is no GPU to record steps on (train.cuda_graph): set it to false"
    )
