"""A model's logits on N images, and what follows from them at once.

Shapes: N images, K classes. Sums run in float64, arrays of (N, K) are kept in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vtrain.errors import DataError

Array: TypeAlias = NDArray[Any]
CHUNK = 2**21
"""Numbers that are computed in float64 at a time: 16 MB, which a processor's cache nearly holds."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits and targets of the same images.

    Shape: `logits` (N, K) floats, all finite; `targets` (N,) int64 in [0, K).

    Raises:
        DataError: There is no image, or shapes or values do not fit.
    """

    logits: Array
    targets: Array

    def __post_init__(self) -> None:
        # Checked once: what follows divides and indexes without another look.
        if self.logits.ndim != 2 or self.targets.shape != self.logits.shape[:1]:
            shapes = f"{self.logits.shape} and {self.targets.shape}"
            raise DataError(f"logits and targets have the shapes {shapes}, not (N, K) and (N,)")
        if not self.logits.size:
            raise DataError("there is no image to report on", hint="evaluate at least one image")
        if self.targets.dtype.kind != "i":
            raise DataError(f"targets are {self.targets.dtype}, not whole numbers")
        if self.targets.min() < 0 or self.targets.max() >= self.num_classes:
            raise DataError(f"a target is not in 0 .. {self.num_classes - 1}")
        if not np.isfinite(self.logits).all():
            raise DataError("the logits hold NaN or infinity", hint="the model has diverged")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        return int(self.logits.shape[1])

    @cached_property
    def log_probs(self) -> Array:
        """Logarithm of the softmax. Shape: (N, K) float32.

        Ranked by it, sure images keep their order where their probabilities round to 1.
        """
        result = np.empty(self.logits.shape, np.float32)
        for rows in row_slices(*self.logits.shape):
            result[rows] = log_softmax(self.logits[rows])
        return result

    @cached_property
    def probs(self) -> Array:
        """Shape: (N, K) float32."""
        return np.asarray(np.exp(self.log_probs))

    @cached_property
    def predicted(self) -> Array:
        """The likeliest class, the first of equals. Shape: (N,) int64."""
        return np.asarray(self.logits.argmax(1))

    @cached_property
    def correct(self) -> Array:
        """Shape: (N,) bool."""
        return np.asarray(self.predicted == self.targets)

    @cached_property
    def confidence(self) -> Array:
        """Probability of the likeliest class. Shape: (N,) float64."""
        return np.asarray(np.exp(self.log_probs.max(1).astype(np.float64)))

    @cached_property
    def loss(self) -> Array:
        """Cross entropy of each image, in nats. Shape: (N,) float64."""
        return -self.log_probs[np.arange(len(self)), self.targets].astype(np.float64)

    @cached_property
    def true_rank(self) -> Array:
        """How many classes are likelier than the true one, 0 .. K - 1. Shape: (N,) int64."""
        ranks = np.empty(len(self), np.int64)
        columns = np.arange(self.num_classes)
        for rows in row_slices(*self.logits.shape):
            logits, targets = self.logits[rows], self.targets[rows, None]
            true = np.take_along_axis(logits, targets, 1)
            # Of equals the first is the likelier, as in `predicted`.
            ahead = (logits > true) | ((logits == true) & (columns < targets))
            ranks[rows] = ahead.sum(1)
        return ranks

    def take(self, indices: Array) -> "Scores":
        """Return some of the images. Shape: (n,) int64 or (N,) bool."""
        return Scores(self.logits[indices], self.targets[indices])


def precision_recall_f1(
    hits: Array, support: Array, predicted: Array
) -> tuple[Array, Array, Array]:
    """Return three figures of each class, NaN where one is not defined. Shape: (K,) each."""
    nothing = (support == 0) & (predicted == 0)
    precision = np.where(nothing, np.nan, hits / np.maximum(predicted, 1))
    recall = np.where(support == 0, np.nan, hits / np.maximum(support, 1))
    # 2PR / (P + R) without its 0 / 0: a class with images that is never hit has F1 = 0
    f1 = np.where(support == 0, np.nan, 2 * hits / np.maximum(support + predicted, 1))
    return precision, recall, f1


def worst_first(figure: Array, support: Array) -> Array:
    """Return the classes by a figure in 0 .. 1, those of NaN last. Shape: (K,), (K,) -> (K,)."""
    key = np.where(np.isnan(figure), 2.0, figure)  # none is above 1
    return np.lexsort((np.arange(len(key)), -support, key))


def log_softmax(logits: Array) -> Array:
    """Return the logarithm of the softmax in float64. Shape: (n, K) -> (n, K)."""
    shifted = logits.astype(np.float64)
    # The largest becomes 0, so that no power of it is infinite.
    shifted -= shifted.max(1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(1, keepdims=True))
    return shifted


def row_slices(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of about `CHUNK` numbers that cover all rows."""
    step = max(1, CHUNK // columns)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def halves(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Return two random halves of `count` images; what is fitted on one is judged on the other."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])
