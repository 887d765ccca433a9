"""What images are labelled with: one class each, or any number of several.

One class is its number, (N,) int64. Several are a row each, (N, K) float32: 1 for a class that the
image has, 0 for one that it has not, or a share between where the label itself is unsure. Whoever
only counts or chooses images asks here, and need not know which of the two there are.
"""

import torch
from torch import Tensor

from vtrain.errors import ConfigError

PRESENT = 0.5
"""The share from which on an image counts as having a class."""
NO_LABEL = "no label"
"""What is said of an image that has none of the classes."""


def has_several(targets: Tensor) -> bool:
    """Whether each image may have several classes, or none."""
    return targets.ndim == 2


def refuse_several(targets: Tensor, what: str, hint: str | None = None) -> None:
    """Refuse several classes an image where that has no meaning.

    Raises:
        ConfigError: An image may have several; `what` can only be done with one.
    """
    if has_several(targets):
        raise ConfigError(f"{what} is for images of one class each", "several labels", hint)


def images_per_class(targets: Tensor, num_classes: int = 0) -> Tensor:
    """Count the images that have each class, at least of `num_classes` of them.

    Shape: (N,) or (N, K) -> (K,) int64.
    """
    if has_several(targets):
        return (targets >= PRESENT).sum(0)
    return targets.bincount(minlength=num_classes)


def classes_present(targets: Tensor) -> Tensor:
    """Return the numbers of the classes that any image has. Shape: (N,) or (N, K) -> (n,) int64."""
    if has_several(targets):
        return (targets >= PRESENT).any(0).nonzero()[:, 0]
    present: Tensor = torch.unique(targets)
    return present


def strata(targets: Tensor) -> Tensor:
    """Return a group for each image, so that shares of the groups have the classes in proportion.

    Of several classes it is the one that the fewest images have: a frequent one is in every part
    anyway. Images without any are a group of their own.

    Shape: (N,) or (N, K) -> (N,) int64.
    """
    if not has_several(targets):
        return targets
    has = targets >= PRESENT
    counts = has.sum(0)
    # Of equally rare ones the first, on every machine: `argmin` may take any.
    rarity = counts.argsort(stable=True).argsort()  # 0 for the rarest
    rank = torch.where(has, rarity, len(counts)).amin(1)  # (N,)
    groups = torch.cat([counts.argsort(stable=True), torch.tensor([len(counts)])])
    return groups[rank]


def label_text(target: Tensor, classes: tuple[str, ...]) -> str:
    """Name what one image is labelled with. Shape: target () int64 or (K,)."""
    if target.ndim == 0:
        return classes[int(target)]
    names = [name for name, share in zip(classes, target.tolist(), strict=True) if share >= PRESENT]
    return " + ".join(names) or NO_LABEL
