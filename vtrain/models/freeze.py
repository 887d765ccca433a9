"""Train only a part of a model: a linear probe, or the upper blocks."""

from typing import Literal

from vtrain.models.base import ImageClassifier


def freeze(model: ImageClassifier, what: Literal["backbone"] | int) -> list[str]:
    """Exclude a model's lower part from training, and return the names of what was frozen.

    Args:
        model: Any model of the zoo; its parameters' `requires_grad` are changed.
        what: `backbone` leaves only the heads (a linear probe); a number N freezes the stem and the
            first N blocks.

    Raises:
        ValueError: The model has fewer blocks than `what`.
    """
    blocks = len(model.depth_groups()) - 2  # without stem and heads
    if what == "backbone":
        what = blocks
    if not 0 <= what <= blocks:
        raise ValueError(f"freeze ({what}) must be backbone or at most the {blocks} blocks")
    frozen = [name for name, _ in model.named_parameters() if model.layer_id(name) <= what]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen
