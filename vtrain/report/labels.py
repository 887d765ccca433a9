"""Images whose label is probably wrong, by confident learning.

Reference: Northcutt et al., JAIR 70 (2021), arXiv:1911.00068; which are in doubt is as in
cleanlab's default, "prune by noise rate", and their order is that of the label's own probability
("self-confidence"). By the margin, a model of middling skill puts its own sure mistakes first:
`scripts/bench planted_labels` found 28 % of the wrong labels so, and 50 % in this order.
"""

from dataclasses import dataclass

import numpy as np

from vtrain.report.scores import Array, Scores


@dataclass(frozen=True)
class Suspect:
    """An image whose label is in doubt."""

    index: int
    label: int
    suggested: int
    probability: float
    """Of the label, by the model: the smaller, the more doubtful."""
    margin: float
    """Probability of the suggested class minus the label's."""


@dataclass(frozen=True)
class SuspiciousLabels:
    """Labels in doubt, the most doubtful first."""

    suspects: list[Suspect]
    estimated_wrong: float
    """Share of all labels."""


def suspicious_labels(scores: Scores) -> SuspiciousLabels:
    """Return the labels in doubt. The predictions must not be of images trained on.

    Of n_ij images that are estimated to be labelled i and to be j in truth, those are in doubt
    whose probability of j exceeds that of i by most.
    """
    joint = confident_joint(scores)
    suspects: dict[int, Suspect] = {}
    for label in np.unique(scores.targets):
        members = np.flatnonzero(scores.targets == label)
        probs = scores.probs[members].astype(np.float64)
        for other in np.flatnonzero(joint[label]):
            number = round(float(joint[label, other]))
            if other == label or number == 0:
                continue
            margin = probs[:, other] - probs[:, label]
            worst = np.lexsort((members, -margin))[:number]
            for place in worst[margin[worst] > 0]:  # not one that the model agrees with
                index = int(members[place])
                given, lead = float(probs[place, label]), float(margin[place])
                suspect = Suspect(index, int(label), int(other), given, lead)
                # Several classes may claim an image: the strongest claim stands.
                if index not in suspects or suspects[index].margin < suspect.margin:
                    suspects[index] = suspect
    # By the loss, as probabilities of far less than the others' may round to the same 0.
    ranked = sorted(suspects.values(), key=lambda s: (-scores.loss[s.index], s.index))
    wrong = 1 - float(np.trace(joint)) / len(scores)
    return SuspiciousLabels(ranked, wrong)


def confident_joint(scores: Scores) -> Array:
    """Estimate how many images are labelled i (row) and are j in truth. Shape: (K, K) float64.

    Rows add up to the number of images with that label.
    """
    k, targets = scores.num_classes, scores.targets
    support = np.bincount(targets, minlength=k)
    # An image counts for class j if it is as sure of j as images labelled j are on average.
    thresholds = np.full(k, np.inf)
    for label in np.flatnonzero(support):
        mean = scores.probs[targets == label, label].mean(dtype=np.float64)
        # Both numbers are cleanlab's: a floor, and room for rounding.
        thresholds[label] = max(mean, 2e-6) - 1e-6
    candidates = np.where(scores.probs >= thresholds, scores.probs, -1.0)
    best = candidates.argmax(1)  # of several classes the likeliest
    counted = candidates[np.arange(len(targets)), best] >= 0
    joint = np.zeros((k, k))
    np.add.at(joint, (targets[counted], best[counted]), 1)
    # Cleanlab's, too: of each class at least one label is taken to be right.
    np.fill_diagonal(joint, np.maximum(np.diag(joint), 1))
    return np.asarray(joint * (support / joint.sum(1))[:, None])
