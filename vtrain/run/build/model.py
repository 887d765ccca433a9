"""Build a run's model, and the model as the trainer calls it."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from vtrain.config import Config
from vtrain.data.datasets.samples import Source
from vtrain.data.preprocess import Preprocess
from vtrain.data.progress import said_if_long
from vtrain.distributed import parallel
from vtrain.errors import printable
from vtrain.files.checkpoint import ModelDescription
from vtrain.models.base import ImageClassifier, freeze
from vtrain.models.limits import check_fits_memory
from vtrain.models.lora import adapt
from vtrain.models.pretrained import load_pretrained
from vtrain.optim.distillation import Teacher
from vtrain.registry import MODELS, bind, section
from vtrain.run.build.colours import say_colours, with_colours
from vtrain.run.build.plan import Plan
from vtrain.run.build.teacher import load_teacher

log = logging.getLogger(__name__)


def build_model(config: Config, num_classes: int) -> ImageClassifier:
    """Return the model with random weights, a function of the config's seed."""
    component = bind(MODELS[config.model.name], config.model)
    build = partial(component, num_classes=num_classes, image_size=config.data.image_size)
    build = partial(build, in_channels=config.data.channels)
    with section("model"):
        check_fits_memory(build)
        torch.manual_seed(config.seed)  # right before: the weights depend on nothing else
        model: ImageClassifier = build()
    model.activation_checkpointing = config.train.activation_checkpointing
    return model


@dataclass(frozen=True)
class Start:
    """The weights that a run starts from, in words, and the config that follows from them."""

    config: Config
    weights: str = "random"
    colours: str = ""
    """Which mean and std the run has; empty if it starts at random."""


def load_start(config: Config, model: ImageClassifier, source: Source) -> Start:
    """Give a model the weights that its run starts from, if there are any, and say what they are.

    Their mean and std become the run's, unless the config has its own.
    """
    if config.model.pretrained is None:
        return Start(config)
    with said_if_long(f"reading {printable(config.model.pretrained)}"):
        report = load_pretrained(model, config.model.pretrained, source.classes)
    said = say_colours(config, report.colours, source)
    return Start(with_colours(config, report.colours), str(report), said)


def choose_trained(config: Config, model: ImageClassifier) -> None:
    """Decide what is trained: all, the upper part, or low-rank updates.

    It comes after the weights are loaded, which updates give other names, and before the optimizer
    is built, which takes what may be trained.

    Raises:
        ConfigError: Two keys contradict each other, or a value does not fit the model.
    """
    lora = config.model.lora
    with section("model"):
        if lora is not None and config.model.freeze is not None:
            raise ValueError(
                f"lora fixes all but the heads: freeze ({config.model.freeze}) must be null"
            )
        if config.model.freeze is not None:
            freeze(model, config.model.freeze)
        if lora is not None:
            if config.train.parallel == "fsdp":
                raise ValueError("lora trains little enough for train.parallel (fsdp) to be ddp")
            torch.manual_seed(config.seed)  # the new weights depend on nothing else
            layers = adapt(model, lora)
            log.info("lora    rank %d in %d layers", lora.rank, len(layers))


def describe_model(config: Config, model: ImageClassifier) -> ModelDescription:
    """Return the plain data from which `load_model` builds the model again."""
    component = MODELS[config.model.name]
    values = config.model.model_dump(mode="json")
    arguments = {name: values[name] for name, _, _ in component.parameters()}
    return ModelDescription(component.name, arguments, model.image_size, model.in_channels)


def build_teacher(
    config: Config, classes: tuple[str, ...], preprocess: Preprocess, device: torch.device
) -> Teacher | None:
    """Return the teacher of a distillation, if there is one."""
    distillation = config.train.distillation
    if distillation is None:
        return None
    given = distillation.teacher_weights
    weights = None if given is None else Path(given)
    with said_if_long(f"reading the teacher {printable(distillation.teacher)}"):
        return load_teacher(distillation.teacher, weights, classes, preprocess).to(device)


def build_forward(plan: Plan, model: ImageClassifier) -> nn.Module:
    """Return the model as the trainer calls it: wrapped for several processes, and compiled."""
    if plan.config.train.parallel == "fsdp":  # then its parameters are sharded already
        return compiled(plan, model)
    return compiled(plan, parallel.wrap_ddp(model, plan.config.train.accum_steps))


def compiled(plan: Plan, module: nn.Module) -> nn.Module:
    """Return a module compiled, if that is wanted; shapes are static, for the fastest kernels."""
    return cast(nn.Module, torch.compile(module, dynamic=False)) if plan.compiles else module
