"""The Python entry points: `vtrain.create_model`, `vtrain.list_models`, `vtrain.load_model`."""

from typing import Any

from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

__all__ = ["LoadedModel", "create_model", "list_models", "load_model"]


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
