"""The teacher of a distillation: a checkpoint of vtrain, or a torchvision model."""

import logging
from pathlib import Path

from torch import nn

from vtrain.data.datasets.class_names import places
from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.weights import read_weights
from vtrain.inference.loaded import load_model
from vtrain.optim.distillation import Teacher
from vtrain.registry import suggest

log = logging.getLogger(__name__)

TORCHVISION = "torchvision:"
KEY = "train.distillation.teacher"


def load_teacher(
    teacher: str, weights: Path | None, classes: tuple[str, ...], student: Preprocess
) -> Teacher:
    """Return a trained model that answers for the student's classes, in the student's order.

    A checkpoint of vtrain knows its classes, size and normalisation. A torchvision model sees the
    student's normalisation, and its classes are the student's unless its `weights` name them.

    Raises:
        CheckpointError: The teacher's file cannot be used.
        ConfigError: There is no such model, or it does not know a class of the student.
    """
    if teacher.startswith(TORCHVISION):
        if student.channels != 3:
            what = f"torchvision's models see 3 channels, and data.channels is {student.channels}"
            raise ConfigError(what, KEY, "train a teacher on these images")
        model, known = torchvision_model(teacher.removeprefix(TORCHVISION), weights, classes)
        size = getattr(model, "image_size", None)  # transformers take one size alone
        return Teacher(model, columns(known, classes), size)
    if weights is not None:
        raise ConfigError("a checkpoint of vtrain has its own weights", f"{KEY}_weights")
    # On the CPU: whoever builds the run moves it to the device with the other parts.
    loaded = load_model(teacher)
    geometry = loaded.geometry
    if geometry.channels != student.channels:
        what = f"it sees {geometry.channels} channels, and data.channels is {student.channels}"
        raise ConfigError(what, KEY, "train a teacher on these images")
    # It gets the student's input: undone to pixels, and prepared anew as it was trained itself.
    return Teacher(
        loaded.model,
        columns(loaded.classes, classes),
        geometry.image_size,
        (student.mean, student.std),
        (geometry.mean, geometry.std),
    )


def torchvision_model(
    name: str, weights: Path | None, classes: tuple[str, ...]
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a classifier of torchvision with its weights, and the names of its classes."""
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise ConfigError(f"torchvision has no classifier '{name}'", KEY, suggest(name, names))
    if weights is None:
        raise ConfigError(
            f"{TORCHVISION}{name} needs weights", f"{KEY}_weights", "name the file of its weights"
        )
    file = read_weights(weights)
    state = file.tensors
    # A state dict is in the order of the modules, so its last tensor is the bias of the head.
    last = next(reversed(state.values()))
    model: nn.Module = models.get_model(name, num_classes=len(last) if last.ndim else 1)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"not the weights of {name}: {reason}", weights) from None
    if file.classes:
        return model, file.classes
    if len(last) != len(classes):
        raise ConfigError(f"it has {len(last)} classes, the dataset has {len(classes)}", weights)
    log.info("the teacher's file names no classes: they are taken in the dataset's order")
    return model, classes


def columns(known: tuple[str, ...], classes: tuple[str, ...]) -> list[int] | None:
    """Return where each class is among the `known` ones; None if both are the same.

    Raises:
        ConfigError: A class is not among them.
    """
    if known == classes:
        return None
    numbers, unknown = places(classes, known)
    if unknown:
        raise ConfigError(
            f"the teacher does not know class '{unknown[0]}' ({len(unknown)} of {len(classes)} "
            "classes are unknown)",
            KEY,
            "train a teacher on these classes",
        )
    return numbers
