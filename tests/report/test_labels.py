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
    shares = [s.probability for s in found.suspects]
    assert shares == sorted(shares)
    assert all(s.margin > 0 for s in found.suspects)
    assert len({s.index for s in found.suspects}) == len(shares)
    for suspect in found.suspects:
        assert suspect.label == scores.targets[suspect.index] != suspect.suggested
        probs = scores.probs[suspect.index]
        assert suspect.probability == probs[suspect.label]
        assert suspect.margin == pytest.approx(probs[suspect.suggested] - probs[suspect.label])
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


def test_what_the_model_rules_out_comes_before_what_it_only_takes_for_another() -> None:
    right = [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]
    taken_for_another, ruled_out = [0.80, 0.15, 0.05], [0.62, 0.03, 0.35]
    probs = np.array([*right * 5, taken_for_another, ruled_out])
    targets = np.array([*[0, 1, 2] * 5, 1, 1])
    first, second = suspicious_labels(Scores(np.log(probs).astype(np.float32), targets)).suspects
    assert (first.index, second.index) == (16, 15)
    assert first.margin < second.margin
