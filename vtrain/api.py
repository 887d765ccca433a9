"""The Python entry points: `vtrain.create_model`, `vtrain.list_models`, `vtrain.load_model`."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.container import load_checkpoint
from vtrain.files.images import read_image
from vtrain.files.runs import checkpoint_of
from vtrain.models.base import ImageClassifier
from vtrain.models.limits import check_fits_memory
from vtrain.registry import MODELS


def create_model(
    name: str, *, num_classes: int = 1000, image_size: int | None = None, **arguments: Any
) -> ImageClassifier:
    """Build a model of the zoo with random weights.

    Args:
        name: One of `list_models()`.
        num_classes: Length of the logits.
        image_size: Pixels per side; the size it was published for unless given.
        arguments: Anything else that the model's section of a config may say, and `in_channels`.

    Raises:
        ConfigError: No model has that name.
        ValueError: The model refuses a combination of values.
    """
    component = MODELS[name]
    if image_size is None:
        image_size = component.default("image_size")
    model: ImageClassifier = component(num_classes=num_classes, image_size=image_size, **arguments)
    return model


def list_models() -> list[str]:
    """Return the names of the zoo, sorted."""
    return MODELS.names()


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to use.

    Attributes:
        model: In evaluation mode, with the averaged weights where the run kept an average.
        classes: The names of the logits, in order.
        geometry: How an image becomes the model's input.
        content: The whole checkpoint.
    """

    model: ImageClassifier
    classes: tuple[str, ...]
    geometry: Preprocess
    content: dict[str, Any]

    def preprocess(self, image: Path | str | Image.Image) -> Tensor:
        """Read and prepare one image exactly as in training's evaluation.

        Shape: any image -> (1, C, H, W) float32, on the model's device.

        Raises:
            DataError: The file is no readable image.
        """
        if not isinstance(image, Image.Image):
            image = read_image(Path(image))
        device = next(self.model.parameters()).device
        return self.geometry.normalise(self.geometry(image.convert("RGB"))[None].to(device))


def load_model(ckpt: Path | str, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a checkpoint for use.

    Args:
        ckpt: A checkpoint file, or a run folder (then `best.pt`, else `last.pt`).
        device: Where the model shall be.

    Raises:
        CheckpointError: It is absent, damaged, or not a checkpoint of vtrain.
    """
    path = checkpoint_of(Path(ckpt))
    return described_by(load_checkpoint(path), path, device)


def described_by(
    content: dict[str, Any], path: Path, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Build the model that a checkpoint's content describes; `path` is for messages.

    Raises:
        CheckpointError: The content does not describe a model.
    """
    try:
        described = content["model"]
        component = MODELS[described["name"]]
        # Validated by the same schema as a config: a checkpoint is not trusted either.
        arguments = {"name": component.name, **described["arguments"]}
        section = component.section().model_validate_json(json.dumps(arguments))
        classes, weights = tuple(content["classes"]), model_weights(content)
        handed = {key: described[key] for key in ("image_size", "in_channels")}
        build = partial(
            component, num_classes=len(classes), **handed, **component.arguments(section)
        )
        check_fit(check_fits_memory(build), weights, path)  # before any memory is taken
        model: ImageClassifier = build()
        model.load_state_dict(weights)
        geometry = Preprocess.from_dict(content["preprocess"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"model.{key} is {first['input']!r:.60}: {first['msg']}"
        raise CheckpointError(f"the checkpoint does not describe a model: {reason}", path) from None
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        reason = str(error).splitlines()[0][:150]
        raise CheckpointError(f"the checkpoint does not describe a model: {reason}", path) from None
    model.to(device).eval()
    return LoadedModel(model, classes, geometry, content)


def model_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint that are evaluated: the average, where there is one."""
    state = content["state"]
    weights: dict[str, Tensor] = state["ema"]["weights"] if state["ema"] else state["model"]
    return weights


def check_fit(model: ImageClassifier, weights: dict[str, Tensor], path: Path) -> None:
    """Compare names and shapes with a model's.

    Raises:
        CheckpointError: They differ; the message counts how and names the first.
    """
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    common = expected.keys() & weights.keys()
    reshaped = sorted(name for name in common if expected[name].shape != weights[name].shape)
    if first := [*missing, *unexpected, *reshaped]:
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(reshaped)} reshaped"
        raise CheckpointError(
            f"the weights do not fit the model: {counts}; first: {first[0]}", path
        )
