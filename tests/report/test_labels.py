import numpy as np
import pytest

from tests.report.cases import CASES, random_scores
from vtrain.report.labels import confident_joint, suspicious_labels
from vtrain.report.scores import Scores


def planted(rate: float = 0.05, images: int = 3000, classes: int = 5) -> tuple[Scores, np.ndarray]:
    """Return a skilled model's scores where some labels were changed, and which."""
    truth = random_scores(images, classes, skill=5)
    rng = np.random.default_rng(1)
    wrong = rng.random(images) < rate
    shift = rng.integers(1, classes, size=images)
    labels = np.where(wrong, (truth.targets + shift) % classes, truth.targets)
    return Scores(truth.logits, labels), wrong


def joint_by_loop(scores: Scores) -> np.ndarray:
    """Equation 1 of the paper and its calibration, image by image, with cleanlab's floor."""
    k = scores.num_classes
    threshold = {
        j: max(2e-6, scores.probs[scores.targets == j, j].astype(float).mean())
        for j in range(k)
        if (scores.targets == j).any()
    }
    counts = np.zeros((k, k))
    for label, probs in zip(scores.targets, scores.probs, strict=True):
        sure = [j for j, t in threshold.items() if probs[j] >= t - 1e-6]
        if sure:
            counts[label, max(sure, key=lambda j: (probs[j], -j))] += 1
    for j in range(k):
        counts[j, j] = max(counts[j, j], 1)
    return counts / counts.sum(1, keepdims=True) * np.bincount(scores.targets, minlength=k)[:, None]


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_the_joint_is_that_of_a_loop(scores: Scores) -> None:
    np.testing.assert_allclose(confident_joint(scores), joint_by_loop(scores), atol=1e-9)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_suspects_are_ranked_and_disagree_with_the_model(scores: Scores) -> None:
    found = suspicious_labels(scores)
    margins = [s.margin for s in found.suspects]
    assert margins == sorted(margins, reverse=True)
    assert all(m > 0 for m in margins)
    assert len({s.index for s in found.suspects}) == len(margins)
    for suspect in found.suspects:
        assert suspect.label == scores.targets[suspect.index] != suspect.suggested
    assert -1e-12 <= found.estimated_wrong <= 1


def test_planted_mistakes_are_found() -> None:
    scores, wrong = planted()
    found = suspicious_labels(scores)
    indices = [s.index for s in found.suspects]
    precision = wrong[indices].mean()
    recall = wrong[indices].sum() / wrong.sum()
    assert precision > 0.8
    assert recall > 0.8
    assert found.estimated_wrong == pytest.approx(wrong.mean(), abs=0.02)


def test_right_labels_are_hardly_suspected() -> None:
    scores, _ = planted(rate=0)
    clean = suspicious_labels(random_scores(3000, 5, skill=12))
    assert clean.suspects == []
    assert len(suspicious_labels(scores).suspects) < 0.02 * 3000
