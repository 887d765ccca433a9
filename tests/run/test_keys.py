"""Every key of every section changes something: what reaches a part, or which part it is."""

import ast
import contextlib
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from tests.base_configs import EVERY_SECTION
from vtrain.config import Config, config_from_text
from vtrain.config.schema import SECTIONS
from vtrain.distributed import parallel
from vtrain.engine.trainer import Trainer
from vtrain.models.base import ImageClassifier
from vtrain.registry import (
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    SOURCES,
    Component,
    Registry,
)
from vtrain.run import fit
from vtrain.run.build import callbacks, data, model, optim, parts, resolve, trainer

FLIPS = {
    "seed": "1",
    "model.name": "deit3_s",
    "model.pretrained": "weights.pt",
    "model.freeze": "backbone",
    "model.patch_size": "8",
    "model.embed_dim": "32",
    "model.depth": "3",
    "model.num_heads": "4",
    "model.mlp_ratio": "2.0",
    "model.qkv_bias": "false",
    "model.position_embedding": "none",
    "model.class_position": "false",
    "model.pooling": "mean",
    "model.num_registers": "2",
    "model.distillation_token": "true",
    "model.layer_scale": "1e-4",
    "model.drop_rate": "0.1",
    "model.drop_path_rate": "0.1",
    "model.drop_path_schedule": "constant",
    "data.name": "digits",  # which has no keys of its own
    "data.image_size": "32",
    "data.resize": "squash",
    "data.crop_fraction": "0.9",
    "data.interpolation": "bilinear",
    "data.mean": "[0.5, 0.5, 0.4]",
    "data.std": "[0.5, 0.5, 0.4]",
    "data.val_fraction": "0.25",
    "data.fold": "{of: 4, index: 1}",
    "data.fraction": "0.5",
    "data.limit": "40",
    "data.balanced": "true",
    "data.repeats": "2",
    "data.on_bad_image": "skip",
    "data.num_workers": "1",
    "data.cache": "none",
    "data.num_classes": "5",
    "data.num_images": "32",
    "data.size": "20",
    "augment.crop": "resized",
    "augment.crop_padding": "2",
    "augment.crop_scale": "[0.5, 1.0]",
    "augment.crop_ratio": "[1.0, 1.0]",
    "augment.horizontal_flip": "0.0",
    "augment.vertical_flip": "0.5",
    "augment.policy": "null",
    "augment.brightness": "0.4",
    "augment.contrast": "0.4",
    "augment.saturation": "0.4",
    "augment.hue": "0.1",
    "augment.grey": "0.1",
    "augment.solarize": "0.1",
    "augment.blur": "0.1",
    "augment.blur_sigma": "[0.5, 1.0]",
    "augment.erasing": "0.25",
    "augment.erasing_scale": "[0.1, 0.2]",
    "augment.erasing_ratio": "[1.0, 1.0]",
    "augment.erasing_value": "pixel",
    "augment.transforms": "[{name: RandomInvert}]",
    "augment.mixup": "0.8",
    "augment.cutmix": "1.0",
    "augment.mix_probability": "0.5",
    "augment.mix_switch_probability": "0.1",
    "augment.mix_off_epoch": "2",
    "optimizer.name": "lamb",
    "optimizer.lr": "2e-3",
    "optimizer.lr_base_size": "256",
    "optimizer.weight_decay": "0.1",
    "optimizer.betas": "[0.8, 0.9]",
    "optimizer.eps": "1e-6",
    "optimizer.layer_decay": "0.75",
    "schedule.name": "linear",
    "schedule.warmup_epochs": "1",
    "schedule.warmup_steps": "3",
    "schedule.warmup_start": "0.1",
    "schedule.floor": "0.01",
    "train.epochs": "5",
    "train.batch_size": "8",
    "train.eval_batch_size": "5",
    "train.eval_every": "2",
    "train.accum_steps": "2",
    "train.max_steps": "3",
    "train.max_minutes": "1",
    "train.device": "cpu",
    "train.precision": "bf16",
    "train.compile": "true",
    "train.cuda_graph": "true",
    "train.parallel": "fsdp",
    "train.deterministic": "true",
    "train.activation_checkpointing": "true",
    "train.grad_clip_norm": "0.5",
    "train.ema_decay": "0.99",
    "train.early_stopping.metric": "val/top5",
    "train.early_stopping.mode": "min",
    "train.early_stopping.patience": "5",
    "train.early_stopping.min_gain": "0.01",
    "train.loss.name": "focal",
    "train.loss.label_smoothing": "0.1",
    "train.loss.class_weights": "balanced",
    "train.distillation.teacher": "runs/other",
    "train.distillation.teacher_weights": "teacher.pt",
    "train.distillation.kind": "hard",
    "train.distillation.alpha": "0.7",
    "train.distillation.tau": "3",
    "checkpoint.every_minutes": "5",
    "checkpoint.every_steps": "7",
    "checkpoint.keep": "4",
    "checkpoint.best_metric": "val/loss",
    "logging.every_steps": "5",
    "logging.tensorboard": "false",
    "logging.images": "4",
}
"""For each key another value than in `EVERY_SECTION`."""

IN_PARTS = (
    *("Augment", "Colour", "CropFlip", "Erasing", "Mixing"),
    *("Distillation", "EMA", "EarlyStopping", "EvalLoader", "Intervals", "OptimizerStep"),
    *("Preprocess", "Split", "TimeBudget", "TrainLoader", "Trainer", "choose_precision", "freeze"),
)
IN_FIT = ("CheckpointStore", "Progress", "Saver", "TensorBoard", "choose_device")

MODULES = (callbacks, data, model, optim, parts, resolve, trainer, fit)

Trace = list[tuple[str, Any]]


def plain(value: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Return what a part is told, as values that can be compared; of large things the kind."""
    match value:
        case str() | int() | float() | Path() | torch.device() | None:
            return value
        case list() | tuple():
            return [plain(v) for v in value]
        case dict():
            return {k: plain(v) for k, v in value.items() if k != "config"}  # a copy of the whole
        case BaseModel():
            return value.model_dump()
        case partial():
            return plain(value.args)
        case Component():
            return value.name
        case ImageClassifier():
            return value.activation_checkpointing
    return type(value).__name__


def recording(trace: Trace, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)  # the signature is the schema
    def record(*args: Any, **kwargs: Any) -> Any:
        trace.append((name, plain([args, kwargs])))
        return call(*args, **kwargs)

    return record


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = prefix + key
        opened = isinstance(value, dict) and path not in ("augment.policy", "data.fold")
        yield from flat(value, path + ".") if opened else [path]


def config(*overrides: str) -> Config:
    return config_from_text(EVERY_SECTION, "base.yaml", overrides)


def told(*overrides: str) -> Trace:
    """Set a run up, without a step, and return what its parts were told."""
    trace: Trace = []
    with pytest.MonkeyPatch.context() as patch:
        for name in (*IN_PARTS, *IN_FIT):
            for module in (m for m in MODULES if hasattr(m, name)):
                original = getattr(module, name)
                if inspect.isclass(original):  # it may be used as a type elsewhere: keep the class
                    init = recording(trace, name, original.__init__)
                    patch.setattr(original, "__init__", init)
                    break
                patch.setattr(module, name, recording(trace, name, original))
        patch.setattr(Component, "__call__", recording(trace, "component", Component.__call__))
        for name in ("load_pretrained", "load_teacher"):
            module = parts if name == "load_pretrained" else model
            patch.setattr(module, name, recording(trace, name, lambda *_: nn.Identity()))
        patch.setattr(trainer, "build_graph", recording(trace, "build_graph", lambda *_: None))
        patch.setattr(parallel, "shard", recording(trace, "shard", lambda model, _: model))
        patch.setattr(torch, "compile", recording(trace, "compile", lambda model, **_: model))
        deterministic = recording(trace, "deterministic", lambda _: None)
        patch.setattr(torch, "use_deterministic_algorithms", deterministic)
        patch.setattr(Trainer, "fit", lambda *_: None)
        fit.fit(config(*overrides), "name", Path("run"))
    shutil.rmtree("run")
    return trace


def test_every_key_is_flipped() -> None:
    assert set(FLIPS) == set(flat(config().model_dump()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trace]:
    """What the parts are told in the folder where these tests stand, without a flip."""
    with contextlib.chdir(tmp_path_factory.mktemp("keys")):
        yield told()


def test_without_a_flip_nothing_changes(base: Trace) -> None:
    assert told() == base
    assert {name for name, _ in base} >= {*IN_PARTS, *IN_FIT, "component", "load_teacher"} - {
        "EMA", "TimeBudget", "freeze",
    }  # fmt: skip


@pytest.mark.parametrize("key", FLIPS)
def test_a_key_changes_what_a_part_is_told(base: Trace, key: str) -> None:
    override = "data={name: digits, image_size: 16}" if key == "data.name" else None
    assert told(override or f"{key}={FLIPS[key]}") != base


REGISTRIES: list[Registry] = [MODELS, SOURCES, OPTIMIZERS, SCHEDULES, LOSSES]
COMPONENTS = [registry[name] for registry in REGISTRIES for name in registry.names()]
CLOSED = [Component.of(c) for section in SECTIONS for c in section.constructors]
WITH_KEYS = [c for c in (*COMPONENTS, *CLOSED) if any(c.parameters())]


def written(function: Any) -> Iterator[Any]:
    """What is written out of a constructor: itself, or what its decorators wrap."""
    if inspect.isclass(function):
        if issubclass(function, ImageClassifier):  # it hands groups of keys on to blocks and bases
            modules = {base.__module__ for base in function.__mro__}
            yield from (sys.modules[name] for name in modules if name.startswith("vtrain.models"))
        # Python writes the `__init__` of a dataclass: the class reads its fields.
        yield function if is_dataclass(function) else function.__init__
    elif inspect.isfunction(function):
        yield function
        for cell in function.__closure__ or ():
            yield from written(cell.cell_contents) if inspect.isfunction(cell.cell_contents) else ()


@pytest.mark.parametrize("component", WITH_KEYS, ids=lambda component: component.name)
def test_a_constructor_uses_each_of_its_keys(component: Component) -> None:
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for function in written(component.constructor)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert {name for name, _, _ in component.parameters()} <= used
