"""What an error in each class costs: as it is written in a config, and as a tensor for a loss."""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from vtrain.registry import suggest

ClassWeights = Annotated[
    Literal["balanced", "effective"] | list[NonNegativeFloat] | dict[str, NonNegativeFloat] | None,
    Field(
        description="What an error in each class costs, by its name, `{cat: 1.0, dog: 3.0}`, or as "
        "a list in the order of the classes; `balanced` is the inverse of its share of the "
        "training images, `effective` of their effective number, which grows ever slower, null the "
        "same for all."
    ),
]
Costs = list[NonNegativeFloat] | dict[str, NonNegativeFloat]
PosWeight = Literal["balanced"] | PositiveFloat | Costs | None


def weight_tensor(
    class_weights: ClassWeights,
    class_counts: Sequence[int] | None,
    classes: Sequence[str] | None,
    key: str = "class_weights",
) -> Tensor | None:
    """Return the weight of each class as a tensor; `key` is for messages. Shape: (K,).

    Raises:
        ValueError: What the weights need is missing, or they are not those of the classes.
    """
    if class_weights is None:
        return None
    values = class_weights.values() if isinstance(class_weights, dict) else class_weights
    by_count = None if not isinstance(class_weights, str) else BY_COUNT[class_weights]
    if by_count is None and class_weights and not any(values):
        raise ValueError(f"{key} are all 0: there would be nothing to learn")
    if isinstance(class_weights, dict):
        return torch.tensor(weights_by_name(class_weights, classes or (), key))
    if by_count is None:  # a list, in the order of the classes
        if class_counts is not None and len(class_counts) != len(class_weights):
            raise ValueError(
                f"{key} has {len(class_weights)} values for {len(class_counts)} classes"
            )
        return torch.tensor(class_weights)
    if class_counts is None:
        what = f"{key} ({class_weights}) needs the number of images of each class"
        raise ValueError(what)
    return torch.tensor(by_count(class_counts))


def pos_weight_tensor(
    pos_weight: PosWeight,
    class_counts: Sequence[int] | None,
    classes: Sequence[str] | None,
    images: int | None,
) -> Tensor | None:
    """Return what missing each class costs. Shape: (K,), or () for all classes alike.

    `images` is how many there are; None where each has one class, so that they are the counts' sum.

    Raises:
        ValueError: What it needs is missing, or there is not one for each class.
    """
    if isinstance(pos_weight, int | float):
        return torch.tensor(float(pos_weight))
    if pos_weight != "balanced":
        return weight_tensor(pos_weight, class_counts, classes, "pos_weight")
    if class_counts is None:
        raise ValueError("pos_weight (balanced) needs the number of images of each class")
    total = sum(class_counts) if images is None else images
    # A class that no image has, or all have, leaves nothing to balance.
    return torch.tensor([(total - n) / n if 0 < n < total else 1.0 for n in class_counts])


def weights_by_name(
    weights: Mapping[str, float], classes: Sequence[str], key: str = "class_weights"
) -> list[float]:
    """Return a weight for each class, in their order; `key` is for messages.

    Raises:
        ValueError: A name is no class, or a class has no weight.
    """
    # A name typed on a Mac may have its accents as characters of their own.
    given = {unicodedata.normalize("NFC", name): weight for name, weight in weights.items()}
    wanted = [unicodedata.normalize("NFC", name) for name in classes]
    unknown = [name for name in given if name not in set(wanted)]
    absent = [name for name in wanted if name not in given]
    if unknown:
        raise ValueError(
            f"{key} names '{unknown[0]}', which is no class ({len(unknown)} unknown): "
            f"{suggest(unknown[0], list(classes))}"
        )
    if absent:
        raise ValueError(
            f"{key} has no weight for class '{absent[0]}' ({len(absent)} of "
            f"{len(classes)} classes have none)"
        )
    return [given[name] for name in wanted]


def balanced_weights(class_counts: Sequence[int]) -> list[float]:
    """Weigh each class by 1 / its count, so that the mean weight of an image is 1.

    A class with no images has weight 0.
    """
    # n images of weight N / (present * n) for each present class: the weights of all N sum to N.
    present = sum(count > 0 for count in class_counts)
    return [sum(class_counts) / (present * n) if n else 0.0 for n in class_counts]


def effective_weights(class_counts: Sequence[int], beta: float = 0.999) -> list[float]:
    """Weigh each class by 1 / the effective number of its images; the mean weight of an image is 1.

    `beta` is the paper's middle value: above some thousand images more of them count for little. A
    class with no images has weight 0.
    Reference: Cui et al., arXiv:1901.05555, equations 2 and 4.
    """
    # expm1: 1 - beta^n of few images would lose digits.
    raw = [-(1 - beta) / math.expm1(n * math.log(beta)) if n else 0.0 for n in class_counts]
    mean = sum(n * weight for n, weight in zip(class_counts, raw, strict=True)) / sum(class_counts)
    return [weight / mean for weight in raw]


BY_COUNT: Mapping[str, Callable[[Sequence[int]], list[float]]] = {
    "balanced": balanced_weights,
    "effective": effective_weights,
}
"""Class weights that follow from how many images there are."""


def log_shares(class_counts: Sequence[int] | None) -> Tensor:
    """Return the logarithm of each class's share of the training images. Shape: (K,).

    A class with no images counts as if it had one.

    Raises:
        ValueError: The numbers are missing.
    """
    if class_counts is None:
        raise ValueError("tau needs the number of images of each class")
    counts = torch.tensor(class_counts, dtype=torch.float64).clamp_min(1)
    return (counts / counts.sum()).log().float()
