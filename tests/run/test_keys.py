"""Every key of every section changes something: what reaches a part, or which part it is."""

import ast
import contextlib
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

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
from vtrain.run.request import Request

STATED = {
    "data.num_workers": "1",
    "seed": "1",
    "model.name": "deit3_s",
    "model.pretrained": "weights.pt",
    "model.freeze": "backbone",
    "model.lora": "{rank: 4}",
    "model.position_embedding": "none",
    "model.pooling": "mean",
    "model.num_registers": "2",
    "model.layer_scale": "1e-4",
    "data.name": "digits",
    "data.crop_fraction": "0.9",
    "data.reducing_gap": "3.0",
    "data.value_range": "[0.0, 4095.0]",
    "data.channels": "1",
    "data.mean": "[0.5, 0.5, 0.4]",
    "data.std": "[0.5, 0.5, 0.4]",
    "data.fold": "{of: 4, index: 1}",
    "data.fraction": "0.5",
    "data.limit": "40",
    "data.cache": "none",
    "augment.crop_scale": "[0.5, 1.0]",
    "augment.crop_ratio": "[1.0, 1.0]",
    "augment.policy": "null",
    "augment.blur_sigma": "[0.5, 1.0]",
    "augment.erasing_scale": "[0.1, 0.2]",
    "augment.erasing_ratio": "[1.0, 1.0]",
    "augment.erasing_value": "pixel",
    "augment.transforms": "[{name: RandomInvert}]",
    "augment.mix_off_epoch": "2",
    "optimizer.name": "lamb",
    "optimizer.lr_base_size": "256",
    "optimizer.betas": "[0.8, 0.9]",
    "optimizer.layer_decay": "0.75",
    "schedule.name": "linear",
    "train.eval_batch_size": "5",
    "train.max_steps": "3",
    "train.max_minutes": "1",
    "train.device": "cpu",
    "train.precision": "bf16",
    "train.compile": "true",
    "train.grad_clip_norm": "0.5",
    "train.ema_decay": "0.99",
    "train.early_stopping.metric": "val/loss",
    "train.early_stopping.patience": "5",
    "train.loss.name": "focal",
    "train.loss.class_weights": "balanced",
    "train.distillation.teacher": "runs/other",
    "train.distillation.teacher_weights": "teacher.pt",
    "checkpoint.every_minutes": "5",
    "checkpoint.every_steps": "7",
    "checkpoint.best_metric": "val/loss",
}
"""Another value than in `EVERY_SECTION`, where `flipped` finds none that fits."""


def flipped(value: Any, annotation: Any) -> str:
    """Return another value of the type: the opposite, another choice, half or twice the number."""
    choices = [
        c
        for a in (annotation, *get_args(annotation))
        if get_origin(a) is Literal
        for c in get_args(a)
    ]
    match value:
        case bool():
            other: Any = not value
        case int():
            other = 2 * value or 1
        case float():
            other = value / 2 or 0.1
        case _:
            others = [choice for choice in choices if choice != value]
            assert others, f"{value!r} has no obvious other value: give it one in `STATED`"
            other = others[0]
    return json.dumps(other)


IN_PARTS = (
    *("Augment", "Colour", "CropFlip", "Erasing", "Mixing"),
    *("Distillation", "EMA", "EarlyStopping", "EvalLoader", "Intervals", "OptimizerStep"),
    *("Preprocess", "Split", "TimeBudget", "TrainLoader", "Trainer", "choose_precision", "freeze"),
    "adapt",
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


def flips(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of a section and of those in it, each with another value than it has."""
    for key, field in type(section).model_fields.items():
        path, value = prefix + key, getattr(section, key)
        if path in STATED:
            yield path, STATED[path]
        elif isinstance(value, BaseModel):
            yield from flips(value, f"{path}.")
        else:
            yield path, flipped(value, field.annotation)


def config(*overrides: str) -> Config:
    return config_from_text(EVERY_SECTION, "base.yaml", overrides)


STAND_INS: list[tuple[Any, str, Callable[..., Any]]] = [
    (model, "load_pretrained", lambda *_: SimpleNamespace(colours=None)),
    (model, "load_teacher", lambda *_: nn.Identity()),
    (trainer, "build_graph", lambda *_: None),
    (parallel, "shard", lambda model, _: model),
    (torch, "compile", lambda model, **_: model),
    (torch, "use_deterministic_algorithms", lambda _: None),
]
"""What needs files, a GPU or other processes, and what takes its place while it is recorded."""


def record_calls(patch: pytest.MonkeyPatch, trace: Trace, name: str) -> None:
    """Record the calls of a function or class of `run`, wherever it is used."""
    for module in (m for m in MODULES if hasattr(m, name)):
        original = getattr(module, name)
        if inspect.isclass(original):  # it may be used as a type elsewhere: keep the class
            patch.setattr(original, "__init__", recording(trace, name, original.__init__))
            return
        patch.setattr(module, name, recording(trace, name, original))


def told(*overrides: str) -> Trace:
    """Set a run up, without a step, and return what its parts were told."""
    trace: Trace = []
    with pytest.MonkeyPatch.context() as patch:
        for name in (*IN_PARTS, *IN_FIT):
            record_calls(patch, trace, name)
        patch.setattr(Component, "__call__", recording(trace, "component", Component.__call__))
        for owner, name, stand_in in STAND_INS:
            patch.setattr(owner, name, recording(trace, name, stand_in))
        patch.setattr(Trainer, "fit", lambda *_: None)
        fit.fit(Request(config(*overrides), "name", Path("run")))
    shutil.rmtree("run")
    return trace


FLIPS = dict(flips(config()))


def test_no_value_is_stated_for_a_key_that_is_gone() -> None:
    assert STATED.keys() <= FLIPS.keys()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trace]:
    """What the parts are told in the folder where these tests stand, without a flip."""
    with contextlib.chdir(tmp_path_factory.mktemp("keys")):
        yield told()


def test_without_a_flip_nothing_changes(base: Trace) -> None:
    assert told() == base
    assert {name for name, _ in base} >= {*IN_PARTS, *IN_FIT, "component", "load_teacher"} - {
        "EMA", "TimeBudget", "adapt", "freeze",
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
