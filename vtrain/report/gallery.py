"""Which images are worth a look: sure and wrong, right but unsure, the most typical."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtrain.report.scores import Array, Scores

TOP = 3


@dataclass(frozen=True)
class Example:
    """One image and what the model says about it."""

    index: int
    true: int
    true_rank: int
    """1 if the true class is the likeliest."""
    true_probability: float
    likeliest: list[tuple[int, float]]
    """Up to `TOP` classes with their probabilities."""


def sure_and_wrong(scores: Scores, limit: int) -> list[Example]:
    """Return mistakes, those first whose wrong class is most probable."""
    wrong = np.flatnonzero(~scores.correct)
    # Of equally sure mistakes the one with the greater loss is the worse.
    order = np.lexsort((wrong, -scores.loss[wrong], -scores.confidence[wrong]))
    return examples(scores, wrong[order[:limit]])


def right_but_unsure(scores: Scores, limit: int) -> list[Example]:
    """Return right answers, the least sure first."""
    right = np.flatnonzero(scores.correct)
    order = np.lexsort((right, scores.confidence[right]))
    return examples(scores, right[order[:limit]])


def most_typical(scores: Scores, classes: Sequence[int], per_class: int) -> list[Example]:
    """Return the surest right answers of each of some classes, which may have none."""
    chosen: list[int] = []
    for label in classes:
        right = np.flatnonzero(scores.correct & (scores.targets == label))
        order = np.lexsort((right, scores.loss[right]))  # finer than confidence near 1
        chosen += right[order[:per_class]].tolist()
    return examples(scores, np.array(chosen, np.int64))


def examples(scores: Scores, indices: Array) -> list[Example]:
    """Return what the model says about some images. Shape: (n,) int64."""
    top = min(TOP, scores.num_classes)
    result = []
    for index in indices.tolist():
        log_probs = scores.log_probs[index]
        # By logits, as `predicted`: log-probabilities may be equal by rounding.
        best = np.argsort(-scores.logits[index], kind="stable")[:top]
        result.append(
            Example(
                index,
                int(scores.targets[index]),
                int(scores.true_rank[index]) + 1,
                float(np.exp(-scores.loss[index])),
                [(int(k), float(np.exp(log_probs[k]))) for k in best],
            )
        )
    return result
