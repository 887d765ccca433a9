"""Everything that a report says of one set of predictions, from the first figure to the last."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtrain.report.calibration import Calibration, calibrate
from vtrain.report.confusion import (
    MAX_SHOWN,
    ConfusedPair,
    clustered_order,
    confused_pairs,
    worst_classes,
)
from vtrain.report.gallery import Example, examples, most_typical, right_but_unsure, sure_and_wrong
from vtrain.report.labels import SuspiciousLabels, suspicious_labels
from vtrain.report.long_tail import LongTail, long_tail
from vtrain.report.metrics import Overall, PerClass, confusion_matrix, figures
from vtrain.report.predictions import Predictions
from vtrain.report.reject import Reject, reject_curve
from vtrain.report.scores import Array
from vtrain.report.temperature import Temperature, judge_temperature

GALLERY = 24
MAX_SUSPECTS = 100
"""Labels in doubt that are listed; the number of all is said."""


@dataclass(frozen=True)
class Galleries:
    """Images worth a look."""

    sure_and_wrong: list[Example]
    right_but_unsure: list[Example]
    most_typical: list[Example]
    suspects: list[Example]
    """In the order of the suspicious labels, as far as they are shown."""

    def indices(self) -> list[int]:
        """Return the numbers of all images, those first that say most; some come twice."""
        every = (self.sure_and_wrong, self.suspects, self.right_but_unsure, self.most_typical)
        return [example.index for examples in every for example in examples]


@dataclass(frozen=True)
class Analysis:
    """What a set of predictions is worth. Classes are numbers; `classes` has their names."""

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    in_sample: bool
    overall: Overall
    per_class: PerClass
    never_predicted: list[int]
    """Classes with images that no image was given."""
    without_images: list[int]
    matrix: Array
    """Rows are the true classes. Shape: (K, K)."""
    order: Array
    """In which classes that are confused are neighbours. Shape: (K,)."""
    pairs: list[ConfusedPair]
    calibration: Calibration
    temperature: Temperature | None
    """None of one image, which has no two halves."""
    reject: Reject
    labels: SuspiciousLabels
    long_tail: LongTail | None
    """None where it is not known how many images of each class were trained on."""
    galleries: Galleries

    def shown_classes(self) -> Array:
        """Return the classes of the matrix with numbers, in the clustered order."""
        if len(self.classes) <= MAX_SHOWN:
            return self.order
        # Chosen by their mistakes, but in the clustered order: neighbours stay neighbours.
        worst = set(worst_classes(self.matrix).tolist())
        return np.array([k for k in self.order.tolist() if k in worst])


def analyse(predictions: Predictions, train_counts: Sequence[int] | None = None) -> Analysis:
    """Compute all figures.

    Args:
        predictions: Of a split.
        train_counts: Training images of each class, in the order of the predictions' classes.
    """
    scores = predictions.scores()
    overall, per_class = figures(scores)
    has_images, is_given = per_class.support > 0, per_class.predicted > 0
    matrix = confusion_matrix(scores)
    labels = suspicious_labels(scores)
    listed = np.array([s.index for s in labels.suspects[:GALLERY]], np.int64)
    # One image for each of many classes, three for each of few: the gallery stays the same size.
    typical = worst_classes(matrix, MAX_SHOWN)
    per = 3 if scores.num_classes <= 10 else 1
    return Analysis(
        classes=predictions.classes,
        ids=predictions.ids,
        in_sample=predictions.is_in_sample,
        overall=overall,
        per_class=per_class,
        never_predicted=np.flatnonzero(has_images & ~is_given).tolist(),
        without_images=np.flatnonzero(~has_images).tolist(),
        matrix=matrix,
        order=clustered_order(matrix),
        pairs=confused_pairs(matrix),
        calibration=calibrate(scores),
        temperature=judge_temperature(scores),
        reject=reject_curve(scores),
        labels=labels,
        long_tail=None if train_counts is None else long_tail(scores, np.array(train_counts)),
        galleries=Galleries(
            sure_and_wrong(scores, GALLERY),
            right_but_unsure(scores, GALLERY),
            # Chosen by their mistakes as well, and shown in the order of the classes.
            most_typical(scores, sorted(typical.tolist()), per),
            examples(scores, listed),
        ),
    )
