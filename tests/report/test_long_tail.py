import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.report.cases import CASES, random_scores
from vtrain.report.long_tail import adjust_logits, long_tail, spearman
from vtrain.report.scores import Scores

COUNTS = np.array([1000, 500, 200, 100, 50, 20, 10])


def biased(counts: np.ndarray) -> Scores:
    """Scores that a training on so many images of each class would have shifted."""
    scores = random_scores(2000, len(counts))
    return Scores((scores.logits + np.log(counts)).astype(np.float32), scores.targets)


def test_groups_are_means_of_recalls_by_frequency() -> None:
    scores = biased(COUNTS)
    tail = long_tail(scores, COUNTS)
    recalls = [scores.correct[scores.targets == k].mean() for k in range(7)]
    assert [(g.fewest, g.most, g.classes) for g in tail.groups] == [
        (10, 50, 3),
        (100, 200, 2),
        (500, 1000, 2),
    ]
    expected = [np.mean(recalls[4:]), np.mean(recalls[2:4]), np.mean(recalls[:2])]
    assert [g.recall for g in tail.groups] == pytest.approx(expected)
    assert tail.rank_correlation == pytest.approx(spearmanr(COUNTS, recalls).statistic)
    assert not tail.balanced


def test_adjustment_undoes_the_bias_of_frequency() -> None:
    scores = biased(COUNTS)
    fair = random_scores(2000, 7)
    adjusted = adjust_logits(scores.logits, COUNTS)
    np.testing.assert_array_equal(adjusted.argmax(1), fair.predicted)
    tail = long_tail(scores, COUNTS)
    assert tail.adjusted_accuracy == pytest.approx(fair.correct.mean())
    assert tail.adjusted_balanced_accuracy > tail.balanced_accuracy + 0.1


def test_equal_frequencies_have_no_tail_and_change_nothing() -> None:
    scores = random_scores()
    tail = long_tail(scores, np.full(7, 100))
    assert tail.balanced
    assert np.isnan(tail.rank_correlation)
    assert tail.adjusted_accuracy == tail.accuracy


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_degenerate_data_have_a_tail_too(scores: Scores) -> None:
    counts = np.arange(scores.num_classes)  # one class was never seen
    tail = long_tail(scores, counts)
    assert sum(g.classes for g in tail.groups) == scores.num_classes
    assert sum(g.images for g in tail.groups) == len(scores)
    assert tail.accuracy == scores.correct.mean()


def test_rank_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=30), rng.random(30)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
