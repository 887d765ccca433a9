"""Compare a written file with its model on real images, before anyone gets the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vtrain.data.labels import PRESENT
from vtrain.data.progress import Progress
from vtrain.errors import CheckpointError, counted

Array: TypeAlias = NDArray[Any]
Runtime: TypeAlias = Callable[[Array], Array]
"""Asks a file. Shape: (B, C, S, S) uint8 -> (B, K) float32."""

BATCHES = (1, 5)
"""Batch sizes in turn: a frozen batch serves neither."""
TOLERANCE = 1e-4
"""Largest difference of two logits over the largest logit, in fp32."""
HALF_TOLERANCE = 1e-2
"""The same in fp16, whose numbers are 2^-11 apart: twenty of these steps."""
LEAST_AGREEMENT = 0.9
"""Share of images with the same class below which int8 is a broken file and not a rounded one."""
NOT_KEPT = "nothing was written"


@dataclass(frozen=True)
class Evidence:
    """What a model said of some images.

    Shape: images (N, C, S, S), logits (N, K), targets (N,), or (N, K) of several labels an image.
    """

    images: Array
    logits: Array
    targets: Array
    thresholds: tuple[float, ...] = ()
    """Of several labels: the probability from which on each is named."""

    def __len__(self) -> int:
        return len(self.images)

    def answers(self, logits: Array) -> Array:
        """Return what is named: (N,) classes, or (N, K) whether each label is."""
        if not self.thresholds:
            return np.asarray(logits.argmax(1))
        limits = np.array(self.thresholds, np.float64)
        # sigmoid(x) >= t without a power that could be infinite.
        with np.errstate(divide="ignore"):
            return np.asarray(logits >= np.log(limits) - np.log1p(-limits))

    @property
    def truth(self) -> Array:
        """What would be right to name."""
        return np.asarray(self.targets >= PRESENT) if self.thresholds else self.targets


def share_equal(some: Array, others: Array) -> float:
    """Return the share of images of which all answers are equal. Shape: (N,) or (N, K), twice."""
    return float((some == others).reshape(len(some), -1).all(1).mean())


@dataclass(frozen=True)
class Proof:
    """How a file and its model differ on the same images."""

    images: int
    difference: float
    """Largest difference of two logits over the model's largest one."""
    agreement: float
    """Share of images with the same class, or with the same labels."""
    accuracy: float
    """Share of images of which everything is right."""
    model_accuracy: float

    def __str__(self) -> str:
        return (
            f"compared on {counted(self.images, 'image')}: largest difference "
            f"{self.difference:.1e} of the largest logit, same class on {self.agreement:.2%}, "
            f"accuracy {self.accuracy:.4f} "
            f"(the checkpoint {self.model_accuracy:.4f})"
        )


def prove(
    runtime: Runtime,
    evidence: Evidence,
    path: Path,
    *,
    tolerance: float | None = TOLERANCE,
    agreement: float = 0.0,
) -> Proof:
    """Ask a file for the same images, one at a time and five at a time in turn.

    Without a tolerance only the share of images with the same class is judged.

    Raises:
        CheckpointError: The file is not the model.
    """
    try:
        with Progress("comparing the file with the model", "images", len(evidence)) as progress:
            answers = []
            for part in parts(len(evidence)):
                answers.append(runtime(evidence.images[part]))
                progress.add(len(answers[-1]))
        logits = np.concatenate(answers)
    # Another program's runtime fails in ways of its own, all of which mean the same here.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:150]
        what = f"the file cannot be asked for {' and for '.join(map(str, BATCHES))} images"
        raise CheckpointError(f"{what}: {reason}", path, NOT_KEPT) from error
    if logits.shape != evidence.logits.shape:
        what = f"the file gives logits of shape {logits.shape}, the model {evidence.logits.shape}"
        raise CheckpointError(what, path, NOT_KEPT)
    named, known = evidence.answers(logits), evidence.answers(evidence.logits)
    scale = max(float(np.abs(evidence.logits).max()), 1e-12)
    found = Proof(
        len(evidence),
        float(np.abs(logits.astype(np.float64) - evidence.logits).max()) / scale,
        share_equal(named, known),
        share_equal(named, evidence.truth),
        share_equal(known, evidence.truth),
    )
    # `not <=`, so that NaN is refused.
    if tolerance is not None and not found.difference <= tolerance:
        raise CheckpointError(
            f"the file is not the model: {found}; allowed is {tolerance:g}", path, NOT_KEPT
        )
    if not found.agreement >= agreement or not np.isfinite(logits).all():
        raise CheckpointError(
            f"the file is not the model: {found}; the same class is wanted on {agreement:.0%}",
            path,
            NOT_KEPT,
        )
    return found


def parts(count: int) -> Iterator[slice]:
    """Cut a number of images into batches whose sizes take turns."""
    start, turn = 0, 0
    while start < count:
        size = BATCHES[turn % len(BATCHES)]
        yield slice(start, start + size)
        start, turn = start + size, turn + 1
