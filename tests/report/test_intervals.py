import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from tests.report.cases import CASES, calibrated_scores, random_scores
from vtrain.report.calibration import calibrate, ece_interval, equal_mass_bins
from vtrain.report.intervals import mean_interval, resampled, wilson
from vtrain.report.metrics import figures, mean_intervals, squared_errors
from vtrain.report.reject import aurc_interval, reject_curve, risks


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 10), (10, 10), (9500, 10000)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_wilson_is_that_of_scipy(hits: int, count: int, level: float) -> None:
    theirs = binomtest(hits, count).proportion_ci(level, method="wilson")
    assert wilson(hits, count, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_of_no_trial_nothing_is_known() -> None:
    assert wilson(0, 0) == (0, 1)


def test_the_bootstrap_of_a_mean_is_that_of_a_loop() -> None:
    values = np.random.default_rng(1).exponential(size=50)
    drawn = np.concatenate([weights @ values / 50 for weights in resampled(50, 4000, 0)])
    ours = np.quantile(drawn, [0.025, 0.975])
    rng = np.random.default_rng(2)
    means = [values[rng.integers(50, size=50)].mean() for _ in range(4000)]
    assert ours == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


def test_blocks_do_not_change_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).exponential(size=50)

    def means() -> np.ndarray:
        return np.concatenate([weights @ values for weights in resampled(50, 100, 0)])

    whole = means()
    monkeypatch.setattr("vtrain.report.intervals.BLOCK", 130)
    assert means() == pytest.approx(whole)


def covers(truth: float, intervals: list[tuple[float, float]]) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.slow
def test_intervals_of_95_percent_hold_the_truth_in_90_to_98_of_100_sets() -> None:
    truth = calibrated_scores(200_000, 4, spread=1.0, seed=999)
    pairs = [(truth.targets == k, truth.predicted == k) for k in range(4)]
    hits = np.array([(t & p).sum() for t, p in pairs])
    labelled, given = (np.array([pair[i].sum() for pair in pairs]) for i in (0, 1))
    sets = [calibrated_scores(400, 4, spread=1.0, seed=seed) for seed in range(200)]
    drawn = [mean_intervals(s) for s in sets]
    found = {
        "accuracy": (truth.correct.mean(), [wilson(int(s.correct.sum()), len(s)) for s in sets]),
        "loss": (truth.loss.mean(), [mean_interval(s.loss, draws=500) for s in sets]),
        "Brier": (
            squared_errors(truth).mean(),
            [mean_interval(squared_errors(s), draws=500) for s in sets],
        ),
        "AURC": (
            risks(truth.confidence, truth.correct).mean(),
            [aurc_interval(s.confidence, s.correct, draws=500) for s in sets],
        ),
        "macro precision": (np.mean(hits / given), [one.macro_precision for one in drawn]),
        "balanced accuracy": (np.mean(hits / labelled), [one.macro_recall for one in drawn]),
        "macro F1": (np.mean(2 * hits / (labelled + given)), [one.macro_f1 for one in drawn]),
        "weighted precision": (
            np.average(hits / given, weights=labelled),
            [one.weighted_precision for one in drawn],
        ),
        "weighted F1": (
            np.average(2 * hits / (labelled + given), weights=labelled),
            [one.weighted_f1 for one in drawn],
        ),
    }
    shares = {name: covers(true, intervals) for name, (true, intervals) in found.items()}
    assert {name: share for name, share in shares.items() if not 0.90 <= share <= 0.98} == {}


def test_the_bootstrap_of_the_area_is_that_of_a_loop() -> None:
    scores = CASES["random"]
    ours = aurc_interval(scores.confidence, scores.correct, draws=2000)
    rng, n, areas = np.random.default_rng(7), len(scores), []
    for _ in range(2000):
        drawn = rng.integers(n, size=n)
        # A loop has ties between an image and itself alone, whose order changes nothing.
        order = np.argsort(-scores.confidence[drawn], kind="stable")
        wrong = ~scores.correct[drawn][order]
        areas.append(np.mean(np.cumsum(wrong) / np.arange(1, n + 1)))
    assert ours == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.006)


def test_intervals_of_means_over_classes_are_those_of_resampling_images_one_by_one() -> None:
    scores = CASES["class never predicted"]
    ours = mean_intervals(scores)
    rng, n, drawn = np.random.default_rng(8), len(scores), []
    for _ in range(600):
        rows = rng.integers(n, size=n)
        labels = {"labels": np.unique(scores.targets[rows]), "zero_division": 0}
        macro, weighted = (
            precision_recall_fscore_support(
                scores.targets[rows], scores.predicted[rows], average=average, **labels
            )
            for average in ("macro", "weighted")
        )
        drawn.append([*macro[:3], weighted[0], weighted[2]])
    for interval, theirs in zip(ours, np.array(drawn).T, strict=True):
        assert interval == pytest.approx(np.quantile(theirs, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("name", CASES)
def test_an_interval_holds_the_figure_that_it_is_of(name: str) -> None:
    """A bootstrap's would not: of few images a class it gives lower means, all of them."""
    scores = CASES[name]
    for found in (figures(scores)[0], calibrate(scores), reject_curve(scores)):
        for field in dataclasses.fields(found):
            if field.name.endswith("_interval"):
                low, high = getattr(found, field.name)
                value = getattr(found, field.name.removesuffix("_interval"))
                assert low - 1e-12 <= value <= high + 1e-12 or np.isnan([value, low, high]).any()


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes"), [(800, 100), (2000, 40)])
def test_intervals_of_means_over_many_classes_hold_the_truth(images: int, classes: int) -> None:
    truth, _ = figures(random_scores(400_000, classes, skill=4, seed=999))
    names = ("macro_precision", "balanced_accuracy", "macro_f1", "weighted_f1")
    held = dict.fromkeys(names, 0)
    for seed in range(200):
        found, _ = figures(random_scores(images, classes, skill=4, seed=seed))
        for name in names:
            low, high = getattr(found, f"{name}_interval")
            held[name] += low <= getattr(truth, name) <= high
    assert {name: number for name, number in held.items() if not 180 <= number <= 198} == {}


@pytest.mark.parametrize("name", CASES)
def test_intervals_of_degenerate_data_are_numbers_in_order(name: str) -> None:
    scores = CASES[name]
    bins = equal_mass_bins(scores.confidence)
    for interval in (
        mean_interval(scores.loss, 50),
        mean_interval(squared_errors(scores), 50),
        aurc_interval(scores.confidence, scores.correct, 50),
        ece_interval(scores.confidence, scores.correct, bins, 50),
        *mean_intervals(scores),
    ):
        assert interval.low <= interval.high or (len(scores) == 1 and np.isnan(interval).all())
