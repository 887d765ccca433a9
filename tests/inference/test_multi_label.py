"""Figures of several labels an image, against scikit-learn and against loops."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from torch import Tensor

from vtrain.inference import multi_label as ours


def data(seed: int, count: int, classes: int, levels: int | None = None) -> tuple[Tensor, Tensor]:
    """Random scores, of few values where `levels` says so, and labels that agree a bit."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, classes, generator=draw, dtype=torch.float64)
    noise = 2 * torch.randn(count, classes, generator=draw)
    truth = scores + noise > torch.linspace(-1, 2, classes)
    if levels is not None:
        scores = (scores * levels).round() / levels
    return scores, truth


CASES = [
    pytest.param(*data(0, 200, 5), id="random"),
    pytest.param(*data(1, 300, 3, levels=2), id="ties"),
    pytest.param(torch.zeros(6, 2), torch.tensor([[1, 0]] * 3 + [[0, 1]] * 3).bool(), id="equal"),
    pytest.param(*data(2, 1, 4), id="one image"),
    pytest.param(torch.randn(9, 2), torch.ones(9, 2).bool(), id="all"),
    pytest.param(*data(3, 5, 40), id="classes without images"),
]


def sklearn(function: Any, *arguments: Any, **keys: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not defined, which it makes 0
        return function(*arguments, **keys)


@pytest.mark.parametrize(("scores", "truth"), CASES)
def test_average_precision_is_scikit_learns(scores: Tensor, truth: Tensor) -> None:
    found, defined = ours.average_precision(scores, truth), truth.any(0)
    expected = [
        sklearn(average_precision_score, truth[:, k].numpy(), scores[:, k].numpy())
        for k in range(truth.shape[1])
    ]
    assert found[defined].tolist() == pytest.approx(np.array(expected)[defined].tolist())
    assert found[~defined].isnan().all()
    micro = sklearn(average_precision_score, truth.numpy(), scores.numpy(), average="micro")
    assert float(ours.micro_average_precision(scores, truth).nan_to_num()) == pytest.approx(micro)


@pytest.mark.parametrize(("scores", "truth"), CASES)
def test_f1_is_scikit_learns(scores: Tensor, truth: Tensor) -> None:
    named, defined = scores > 0.3, truth.any(0)
    expected = sklearn(f1_score, truth.numpy(), named.numpy(), average=None, zero_division=0)
    found = ours.f1_scores(named, truth)
    assert found[defined].tolist() == pytest.approx(np.atleast_1d(expected)[defined].tolist())
    assert found[~defined].isnan().all()
    micro = sklearn(f1_score, truth.numpy(), named.numpy(), average="micro", zero_division=0)
    assert ours.micro_f1(named, truth) == pytest.approx(micro)


@pytest.mark.parametrize(("scores", "truth"), CASES)
def test_no_threshold_gives_a_better_f1_than_the_fitted_one(scores: Tensor, truth: Tensor) -> None:
    probabilities = scores.double().sigmoid()
    thresholds = ours.fitted_thresholds(probabilities, truth)
    found = ours.f1_scores(probabilities >= thresholds, truth)
    for k in truth.any(0).nonzero()[:, 0].tolist():
        precision, recall, _ = precision_recall_curve(truth[:, k], probabilities[:, k])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert float(found[k]) == pytest.approx(best)
    assert (thresholds[~truth.any(0)] == 0.5).all()


def test_a_threshold_lies_half_way_between_two_images() -> None:
    probabilities = torch.tensor([[0.9], [0.6], [0.4], [0.1]], dtype=torch.float64)
    truth = torch.tensor([[True], [True], [False], [False]])
    assert ours.fitted_thresholds(probabilities, truth).tolist() == [0.5]
    # Both images must be named: there is nothing below the last.
    assert ours.fitted_thresholds(probabilities[:2], truth[:2]).tolist() == [0.3]


def test_between_neighbouring_floats_the_threshold_is_the_upper_one() -> None:
    low = np.nextafter(0.7, 0.0)
    probabilities = torch.tensor([[0.7], [low]], dtype=torch.float64)
    (threshold,) = ours.fitted_thresholds(probabilities, torch.tensor([[True], [False]])).tolist()
    assert low < threshold <= 0.7


def test_of_equally_good_thresholds_the_fewest_images_are_named() -> None:
    # Naming one: P 1, R 1/2; naming four: P 1/2, R 1: F1 is 2/3 both times.
    probabilities = torch.tensor([[0.8], [0.6], [0.4], [0.2]], dtype=torch.float64)
    truth = torch.tensor([[True], [False], [False], [True]])
    assert ours.fitted_thresholds(probabilities, truth).tolist() == [0.7]


def test_figures_of_a_whole_evaluation_equal_a_loop() -> None:
    logits, truth = data(4, 50, 6)
    targets = truth.double() * 0.8 + 0.1  # shares: from a half on a class is there
    thresholds = torch.linspace(0.2, 0.8, 6, dtype=torch.float64)
    found = ours.metrics(logits, targets, logits.sigmoid(), thresholds)
    named = logits.sigmoid() >= thresholds
    exact = sum(a == b for a, b in zip(named.tolist(), truth.tolist(), strict=True)) / 50
    assert found["val/exact_match"] == pytest.approx(exact)
    macro = f1_score(truth.numpy(), named.numpy(), average="macro", zero_division=0)
    assert found["val/f1"] == pytest.approx(macro)
    assert found["val/map"] == pytest.approx(
        average_precision_score(truth.numpy(), logits.numpy(), average="macro")
    )


def test_without_a_label_anywhere_every_figure_is_a_number() -> None:
    logits, nothing = torch.randn(4, 3).double() - 9, torch.zeros(4, 3)
    found = ours.metrics(logits, nothing, logits.sigmoid(), torch.full((3,), 0.5).double())
    assert found == {
        "val/map": 0.0,
        "val/map_micro": 0.0,
        "val/f1": 0.0,
        "val/f1_micro": 0.0,
        "val/exact_match": 1.0,
    }
