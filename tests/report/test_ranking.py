"""Intervals of average precision and ROC AUC: influences, coverage, degenerate data."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.report.cases import CASES, random_scores
from vtrain.report.ranking import Ranking, rankings
from vtrain.report.scores import Scores

FIGURES = (average_precision_score, roc_auc_score)


def weighted_mean(figure: object, scores: Scores, weights: np.ndarray) -> float:
    """The figure's mean over the classes by scikit-learn, of images that count so often."""
    values = []
    for label in np.unique(scores.targets):
        positive = scores.targets == label
        column = scores.log_probs[:, label]
        values.append(figure(positive, column, sample_weight=weights))
    return float(np.mean(values))


@pytest.mark.parametrize("which", [0, 1], ids=["average precision", "ROC AUC"])
@pytest.mark.parametrize("name", ["random", "saturated", "two classes", "all equal"])
def test_a_mean_varies_as_much_as_that_of_resampled_images(name: str, which: int) -> None:
    scores = CASES[name]
    low, high = rankings(scores)[which].mean_interval
    rng, n = np.random.default_rng(0), len(scores)
    weights = [rng.multinomial(n, np.full(n, 1 / n)) for _ in range(300)]
    classes = len(np.unique(scores.targets))
    whole = [w for w in weights if len(np.unique(scores.targets[w > 0])) == classes]
    drawn = [weighted_mean(FIGURES[which], scores, w) for w in whole]
    deviation = float(np.std(drawn))
    if deviation < 1e-9:  # nothing varies: of equal scores one half of all pairs is in order
        assert name == "all equal"
        return
    assert (high - low) / (2 * 1.96) == pytest.approx(deviation, rel=0.2)


def test_a_class_varies_as_much_as_resampled_images_make_it() -> None:
    scores = random_scores(400, 3)
    positive, column = scores.targets == 0, scores.log_probs[:, 0]
    rng = np.random.default_rng(0)
    for figure, ours in zip(FIGURES, rankings(scores), strict=True):
        drawn = [
            figure(positive, column, sample_weight=rng.multinomial(400, np.full(400, 1 / 400)))
            for _ in range(300)
        ]
        width = (ours.high[0] - ours.low[0]) / (2 * 1.96)
        assert width == pytest.approx(float(np.std(drawn)), rel=0.15)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_intervals_hold_their_figures_and_lie_in_0_to_1(scores: Scores) -> None:
    for found in rankings(scores):
        defined = ~np.isnan(found.values)
        assert np.array_equal(defined, ~np.isnan(found.low))
        values, low, high = (a[defined] for a in (found.values, found.low, found.high))
        assert (low >= 0).all()
        assert (low <= values + 1e-12).all()
        assert (values <= high + 1e-12).all()
        assert (high <= 1).all()
        if defined.any():
            assert found.mean == pytest.approx(values.mean())
            assert found.mean_interval.low <= found.mean <= found.mean_interval.high + 1e-12


def test_a_perfect_ranking_of_few_images_is_no_certainty() -> None:
    """As Wilson's interval of as many hits of as many trials."""
    scores = random_scores(40, 4, skill=100)
    for found in rankings(scores):
        assert found.values.tolist() == [1] * 4
        support = np.bincount(scores.targets)
        np.testing.assert_allclose(found.low, support / (support + 1.959964**2), rtol=1e-6)
        assert found.high.tolist() == [1] * 4


def covered(skill: float, images: int, classes: int) -> dict[str, float]:
    """How often the intervals of 200 sets hold what 400,000 images give."""
    truth = rankings(random_scores(400_000, classes, skill=skill, seed=999))
    sets = [rankings(random_scores(images, classes, skill=skill, seed=n)) for n in range(200)]
    shares = {}
    for which, name in enumerate(("average precision", "ROC AUC")):
        of_one: list[Ranking] = [pair[which] for pair in sets]
        true = truth[which]
        shares[f"mean {name}"] = np.mean(
            [one.mean_interval.low <= true.mean <= one.mean_interval.high for one in of_one]
        )
        shares[f"{name} of a class"] = np.mean(
            [(one.low <= true.values) & (true.values <= one.high) for one in of_one]
        )
    return {name: float(share) for name, share in shares.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("skill", "images", "classes"), [(1, 400, 4), (3, 400, 4), (2, 1000, 10)])
def test_intervals_of_95_percent_hold_the_truth_in_90_to_98_of_100_sets(
    skill: float, images: int, classes: int
) -> None:
    shares = covered(skill, images, classes)
    assert {name: share for name, share in shares.items() if not 0.90 <= share <= 0.98} == {}
