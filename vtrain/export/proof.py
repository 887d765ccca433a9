"""Compare a written file with its model on real images, before anyone gets the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    """What a model said of some images. Shape: images (N, C, S, S), logits (N, K), targets (N,)."""

    images: Array
    logits: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Proof:
    """How a file and its model differ on the same images."""

    images: int
    difference: float
    """Largest difference of two logits over the model's largest one."""
    agreement: float
    """Share of images with the same class."""
    accuracy: float
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
    classes, known = logits.argmax(1), evidence.logits.argmax(1)
    scale = max(float(np.abs(evidence.logits).max()), 1e-12)
    found = Proof(
        len(evidence),
        float(np.abs(logits.astype(np.float64) - evidence.logits).max()) / scale,
        float((classes == known).mean()),
        float((classes == evidence.targets).mean()),
        float((known == evidence.targets).mean()),
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
