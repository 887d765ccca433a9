"""A trained model, built again from its checkpoint and ready to use."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from vtrain.data.preprocess import Preprocess
from vtrain.data.progress import said_if_long
from vtrain.errors import CheckpointError, ConfigError, printable
from vtrain.files.checkpoint import Checkpoint, ModelDescription
from vtrain.files.images import MAX_PIXELS, read_image, rgb
from vtrain.files.runs import checkpoint_of
from vtrain.files.stacks import array_image
from vtrain.inference.tasks import Task, task_of
from vtrain.models.base import ImageClassifier
from vtrain.models.limits import check_fits_memory
from vtrain.registry import MODELS, Component


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to use.

    Attributes:
        model: In evaluation mode, with the averaged weights where the run kept an average.
        classes: The names of the logits, in order.
        geometry: How an image becomes the model's input.
        checkpoint: Everything that its file holds.
        path: That file.
    """

    model: ImageClassifier
    classes: tuple[str, ...]
    geometry: Preprocess
    checkpoint: Checkpoint
    path: Path

    @cached_property
    def task(self) -> Task:
        """What it is asked of an image."""
        return task_of(self.checkpoint)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def preprocess(self, image: Path | str | Image.Image | NDArray[Any]) -> Tensor:
        """Read and prepare one image exactly as in training's evaluation.

        A PIL image is treated as its file is: turned upright by its EXIF block, put on white where
        it is transparent, and scaled to 8 bits. An array is what its `.npy` file is: (H, W),
        (H, W, C) or (C, H, W), for models of any number of channels.

        Shape: any image -> (1, C, H, W) float32, on the model's device.

        Raises:
            DataError: It is no readable image, or has not the model's channels.
        """
        if isinstance(image, np.ndarray):
            picture = array_image(image, MAX_PIXELS)
        else:
            picture = rgb(image) if isinstance(image, Image.Image) else read_image(Path(image))
        pixels = self.geometry(picture)  # (C, H, W) uint8
        return self.geometry.normalise(pixels[None].to(self.device))


def load_model(ckpt: str | os.PathLike[str], device: torch.device | str = "cpu") -> LoadedModel:
    """Load a checkpoint for use.

    Args:
        ckpt: A checkpoint file, or a run folder (then `best.pt`, else `last.pt`).
        device: Where the model shall be.

    Raises:
        CheckpointError: It is absent, damaged, or not a checkpoint of vtrain.

    Examples:
        >>> import vtrain
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> loaded = vtrain.load_model(run)
        >>> len(loaded.classes)
        10
    """
    path = checkpoint_of(Path(ckpt))
    with said_if_long(f"loading {printable(str(path))}"):
        return model_of(Checkpoint.load(path), path, device)


def model_of(checkpoint: Checkpoint, path: Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Build the model that a checkpoint describes; `path` is for messages.

    Raises:
        CheckpointError: The checkpoint does not describe a model, or its weights do not fit it.
    """
    try:
        build = builder_of(checkpoint)
        # On the meta device first: before any memory is taken for what a file claims.
        check_weights_fit(check_fits_memory(build), checkpoint.weights, path)
        model: ImageClassifier = build()
        model.load_state_dict(checkpoint.weights)
        geometry = Preprocess.from_dict(checkpoint.preprocess)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"model.{key} is {first['input']!r:.60}: {first['msg']}"
        raise CheckpointError(f"the checkpoint does not describe a model: {reason}", path) from None
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        reason = str(error).splitlines()[0][:150]
        raise CheckpointError(f"the checkpoint does not describe a model: {reason}", path) from None
    # Moved last: whatever is wrong with a checkpoint is found before a GPU is touched.
    model.to(device).eval()
    return LoadedModel(model, checkpoint.classes, geometry, checkpoint, path)


def arguments_of(described: ModelDescription) -> tuple[Component, dict[str, Any]]:
    """Return the entry of the zoo and every argument, those that are not stated by default."""
    component = MODELS[described.name]
    # Validated by the same schema as a config: a checkpoint is not trusted either.
    stated = {"name": component.name, **described.arguments}
    section = component.section().model_validate_json(json.dumps(stated))
    return component, component.arguments(section)


def builder_of(checkpoint: Checkpoint) -> Callable[[], ImageClassifier]:
    """Return what builds the model that a checkpoint describes, with new weights."""
    described = checkpoint.model
    component, arguments = arguments_of(described)
    return partial(
        component,
        num_classes=len(checkpoint.classes),
        image_size=described.image_size,
        in_channels=described.in_channels,
        **arguments,
    )


def untrained_like(loaded: LoadedModel, seed: int = 0) -> ImageClassifier:
    """Return a model of the same kind that has learnt nothing, in evaluation mode."""
    # The caller's random numbers go on as if none had been drawn; weights are made on the CPU.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = builder_of(loaded.checkpoint)()
    return model.to(loaded.device).eval()


def check_weights_fit(model: ImageClassifier, weights: dict[str, Tensor], path: Path) -> None:
    """Compare names and shapes with a model's.

    Raises:
        CheckpointError: They differ; the message counts how and names the first.
    """
    expected = model.state_dict()
    # `load_state_dict` would list every name on lines of its own; here one line says it.
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    common = expected.keys() & weights.keys()
    reshaped = sorted(name for name in common if expected[name].shape != weights[name].shape)
    if first := [*missing, *unexpected, *reshaped]:
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(reshaped)} reshaped"
        raise CheckpointError(
            f"the weights do not fit the model: {counts}; first: {first[0]}", path
        )
