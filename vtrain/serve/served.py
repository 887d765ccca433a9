"""What is served: a model as functions on images, and what the page says of it.

B images, K classes, S pixels of the model's side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where on an image the evidence is.

    Shape: `values` (rows, columns), not negative, which cover `box`.
    """

    method: str
    target: str | None
    """The class that it explains; None of a method that knows no class."""
    name: str
    """Which of the model's tokens it is of; empty where there is only one map."""
    names: Sequence[str]
    """All that there are of this method, and could be asked for."""
    values: Array
    box: tuple[float, float, float, float]
    """(left, top, right, bottom) in pixels of the upright image."""
    size: tuple[int, int]
    """Width and height of that image."""
    flat: str
    """That the map tells no place from another, or nothing."""
    picture: bytes
    """The map in colours, as a PNG that covers `box`."""


@dataclass(frozen=True)
class Shown:
    """An image of the run's own, to try the model on."""

    caption: str
    thumbnail: str
    """A data URI."""
    read: Callable[[], Image.Image]


@dataclass(frozen=True)
class Served:
    """A loaded model and what is known of it."""

    name: str
    classes: tuple[str, ...]
    """The names of the probabilities, in order."""
    prepare: Callable[[Image.Image], Array]
    """Brings an upright RGB image to the model's input: (C, S, S) uint8."""
    probabilities: Callable[[Array], Array]
    """Asks the model: (B, C, S, S) uint8 -> (B, K) float32."""
    explain: Callable[[Image.Image, str | None, str | None, str | None], Explanation] | None = None
    """Takes an image, a method, a class and the name of a map; None means its own choice."""
    reject: float | None = None
    """The probability of the likeliest class below which an answer is unsure."""
    thresholds: Sequence[float] = ()
    """Of a model of several labels an image: the probability from which on it has each class."""
    facts: Sequence[tuple[str, str]] = ()
    """The model card: what it is called and what it says."""
    examples: Sequence[Shown] = ()

    def answer(self, row: Array, top_k: int) -> dict[str, Any]:
        """Return what is said of an image. Shape: `row` (K,) probabilities."""
        order = np.argsort(-row, kind="stable")
        best = order[:top_k]
        ranked = [{"class": self.classes[k], "probability": float(row[k])} for k in best]
        if self.thresholds:
            named = [self.classes[k] for k in order if row[k] >= self.thresholds[k]]
            return {"predictions": ranked, "labels": named}
        if self.reject is None:
            return {"predictions": ranked}
        return {"predictions": ranked, "unsure": bool(row.max() < self.reject)}
