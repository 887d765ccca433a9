"""Everything that a report says of a model of several labels an image."""

from dataclasses import dataclass

import numpy as np

from vtrain.report.confusion import MAX_SHOWN
from vtrain.report.intervals import Interval, wilson
from vtrain.report.label_scores import LabelScores, PerLabel, per_label
from vtrain.report.predictions import Predictions
from vtrain.report.scores import Array

WORST = 24
"""Images of the gallery."""
MOST_PAIRS = 20


@dataclass(frozen=True)
class LabelOverall:
    """Figures over all images; means are over the classes that an image has."""

    images: int
    classes: int
    labels_per_image: float
    without_label: int
    """Images that have none of the classes."""
    mean_average_precision: float
    micro_average_precision: float
    macro_f1: float
    micro_f1: float
    exact_match: float
    """Share of images of which all labels are right."""
    exact_match_interval: Interval
    loss: float


@dataclass(frozen=True)
class Pair:
    """Two classes that images have together. They are numbers."""

    first: int
    second: int
    images: int
    of_first: float
    """The part of the images of the first class that have the second, too."""
    of_second: float
    lift: float
    """How much more often than if neither knew of the other."""


@dataclass(frozen=True)
class LabelExample:
    """An image, and what of its labels is wrong: classes with their probabilities."""

    index: int
    right: list[tuple[int, float]]
    missed: list[tuple[int, float]]
    wrong: list[tuple[int, float]]


@dataclass(frozen=True)
class LabelAnalysis:
    """What a set of predictions is worth. Classes are numbers; `classes` has their names."""

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    in_sample: bool
    overall: LabelOverall
    per_class: PerLabel
    without_images: list[int]
    together: Array
    """How many images have both classes; on the diagonal, how many have the class. (K, K)."""
    pairs: list[Pair]
    """Classes that occur together, the most frequent first."""
    worst: list[LabelExample]
    """The images of the greatest loss among those that are not right."""

    def shown_classes(self) -> list[int]:
        """Return the classes of the table of what occurs together: those of the most images."""
        most = np.argsort(-self.per_class.support, kind="stable")[:MAX_SHOWN]
        return sorted(int(k) for k in most)


def analyse_labels(predictions: Predictions) -> LabelAnalysis:
    """Compute all figures."""
    scores = predictions.label_scores()
    figures = per_label(scores)
    truth = scores.truth.astype(np.int64)
    together = truth.T @ truth
    return LabelAnalysis(
        classes=predictions.classes,
        ids=predictions.ids,
        in_sample=predictions.is_in_sample,
        overall=_overall(scores),
        per_class=figures,
        without_images=np.flatnonzero(figures.support == 0).tolist(),
        together=together,
        pairs=_pairs(together, len(scores)),
        worst=_worst(scores),
    )


def _overall(scores: LabelScores) -> LabelOverall:
    found, labels = scores.metrics(), scores.truth.sum(1)
    return LabelOverall(
        images=len(scores),
        classes=scores.truth.shape[1],
        labels_per_image=float(labels.mean()),
        without_label=int((labels == 0).sum()),
        mean_average_precision=found["val/map"],
        micro_average_precision=found["val/map_micro"],
        macro_f1=found["val/f1"],
        micro_f1=found["val/f1_micro"],
        exact_match=found["val/exact_match"],
        exact_match_interval=wilson(int(scores.correct.sum()), len(scores)),
        loss=found["val/loss"],
    )


def _pairs(together: Array, images: int) -> list[Pair]:
    firsts, seconds = np.nonzero(np.triu(together, 1))
    order = np.argsort(-together[firsts, seconds], kind="stable")[:MOST_PAIRS]
    pairs = []
    for a, b in zip(firsts[order].tolist(), seconds[order].tolist(), strict=True):
        both, of_a, of_b = (int(together[cell]) for cell in ((a, b), (a, a), (b, b)))
        pairs.append(Pair(a, b, both, both / of_a, both / of_b, both * images / (of_a * of_b)))
    return pairs


def _worst(scores: LabelScores) -> list[LabelExample]:
    bad = np.flatnonzero(~scores.correct)
    chosen = bad[np.argsort(-scores.loss[bad], kind="stable")][:WORST]
    return [_example(scores, index) for index in chosen.tolist()]


def _example(scores: LabelScores, index: int) -> LabelExample:
    truth, named, probs = scores.truth[index], scores.named[index], scores.probs[index]

    def listed(which: Array) -> list[tuple[int, float]]:
        chosen = np.flatnonzero(which)
        return [(k, float(probs[k])) for k in chosen[np.argsort(-probs[chosen])].tolist()]

    return LabelExample(
        index, listed(truth & named), listed(truth & ~named), listed(named & ~truth)
    )
