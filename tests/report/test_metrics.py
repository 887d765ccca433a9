"""Figures of predictions against scikit-learn, torch in float64 and loops."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from tests.report.cases import CASES
from vtrain.report.metrics import confusion_matrix, figures
from vtrain.report.scores import Scores

pytestmark = pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())


def softmax(scores: Scores) -> np.ndarray:
    return torch.tensor(scores.logits, dtype=torch.float64).softmax(1).numpy()


def test_loss_confidence_and_rank_are_those_of_torch_in_float64(scores: Scores) -> None:
    logits = torch.tensor(scores.logits, dtype=torch.float64)
    targets = torch.tensor(scores.targets)
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    np.testing.assert_allclose(scores.loss, loss, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(scores.confidence, softmax(scores).max(1), rtol=1e-5)
    np.testing.assert_array_equal(scores.predicted, logits.argmax(1))
    order = (-logits).sort(dim=1, stable=True).indices
    np.testing.assert_array_equal(scores.true_rank, (order == targets[:, None]).int().argmax(1))


def test_confusion_matrix_is_that_of_scikit_learn(scores: Scores) -> None:
    labels = np.arange(scores.num_classes + 1)  # it warns of a single class
    theirs = sklearn_confusion_matrix(scores.targets, scores.predicted, labels=labels)[:-1, :-1]
    np.testing.assert_array_equal(confusion_matrix(scores), theirs)


def test_precision_recall_and_f1_are_those_of_scikit_learn(scores: Scores) -> None:
    ours = figures(scores)[1]
    labels = np.arange(scores.num_classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        scores.targets, scores.predicted, labels=labels, zero_division=np.nan
    )
    present = support > 0
    np.testing.assert_array_equal(ours.support, support)
    np.testing.assert_allclose(ours.recall, recall)
    np.testing.assert_allclose(ours.precision[~present], precision[~present])
    # Of a class with images that is never predicted: 0, not undefined.
    np.testing.assert_allclose(ours.precision[present], np.nan_to_num(precision[present]))
    np.testing.assert_allclose(ours.f1[present], np.nan_to_num(f1[present]))
    assert np.isnan(ours.f1[~present]).all()


def test_ranking_figures_are_those_of_scikit_learn(scores: Scores) -> None:
    ours = figures(scores)[1]
    for label in range(scores.num_classes):
        positive = scores.targets == label
        if not positive.any():
            assert np.isnan(ours.average_precision[label])
            assert np.isnan(ours.roc_auc[label])
            continue
        column = scores.log_probs[:, label]
        assert ours.average_precision[label] == pytest.approx(
            average_precision_score(positive, column), rel=1e-9
        )
        if positive.all():
            assert np.isnan(ours.roc_auc[label])
        else:
            assert ours.roc_auc[label] == pytest.approx(roc_auc_score(positive, column), rel=1e-9)


def test_overall_figures_are_those_of_scikit_learn_and_of_a_loop(scores: Scores) -> None:
    ours = figures(scores)[0]
    present = np.unique(scores.targets)
    for average, values in {
        "macro": (ours.macro_precision, ours.balanced_accuracy, ours.macro_f1),
        "weighted": (ours.weighted_precision, ours.accuracy, ours.weighted_f1),
    }.items():
        theirs = precision_recall_fscore_support(
            scores.targets, scores.predicted, labels=present, average=average, zero_division=0
        )
        np.testing.assert_allclose(values, theirs[:3])
    assert ours.accuracy == np.mean(scores.predicted == scores.targets)
    probs, total = softmax(scores), 0.0
    for row, target in zip(probs, scores.targets, strict=True):
        total += sum((p - (k == target)) ** 2 for k, p in enumerate(row))
    assert ours.brier == pytest.approx(total / len(scores), rel=1e-5, abs=1e-12)
    assert ours.accuracy_interval.low <= ours.accuracy <= ours.accuracy_interval.high
    for name in ("top5", "balanced_accuracy", "macro_precision", "macro_f1", "nll", "brier"):
        low, high = getattr(ours, f"{name}_interval")
        # One image gives no bootstrap, only Wilson's interval.
        assert low <= high or (len(scores) == 1 and name != "top5" and np.isnan([low, high]).all())
    low, high = ours.nll_interval
    assert len(scores) == 1 or low - 1e-12 <= ours.nll <= high + 1e-12


def test_the_intervals_of_a_class_are_those_of_scipy(scores: Scores) -> None:
    ours = figures(scores)[1]
    for k in range(scores.num_classes):
        true, given = scores.targets == k, scores.predicted == k
        for name, trials in (("recall", true), ("precision", given)):
            ends = [getattr(ours, f"{name}_{end}")[k] for end in ("low", "high")]
            if np.isnan(getattr(ours, name)[k]):
                assert np.isnan(ends).all()
            elif trials.any():
                hits, count = int((true & given).sum()), int(trials.sum())
                theirs = binomtest(hits, count).proportion_ci(method="wilson")
                assert ends == pytest.approx([theirs.low, theirs.high], abs=1e-12)
            else:
                assert ends == [0, 1], "of no prediction nothing is known"


def test_top_5_is_that_of_scikit_learn(scores: Scores) -> None:
    ours = figures(scores)[0].top5
    if scores.num_classes <= 5:
        assert ours == 1.0
    elif len(np.unique(scores.logits)) > 1:  # of equal logits it takes others than the first
        labels = np.arange(scores.num_classes)
        theirs = top_k_accuracy_score(scores.targets, scores.logits, k=5, labels=labels)
        assert ours == pytest.approx(theirs)
