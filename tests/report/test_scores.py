import numpy as np
import pytest

from tests.report.cases import random_scores
from vtrain.errors import DataError
from vtrain.report.scores import Scores, halves


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), "no image"),
        (np.zeros((2, 0)), np.zeros(2, np.int64), "no image"),
        (np.zeros((2, 3)), np.zeros(3, np.int64), "shapes"),
        (np.zeros((2, 3)), np.zeros((2, 1), np.int64), "shapes"),
        (np.zeros(3), np.zeros(3, np.int64), "shapes"),
        (np.zeros((2, 3)), np.array([0, 3]), "not in 0 .. 2"),
        (np.zeros((2, 3)), np.array([-100, 0]), "not in 0 .. 2"),
        (np.zeros((2, 3)), np.zeros(2), "whole numbers"),
        (np.array([[0.0, np.nan]]), np.array([0]), "NaN"),
        (np.array([[0.0, np.inf]]), np.array([0]), "NaN"),
    ],
)
def test_what_cannot_be_reported_on_is_refused(
    logits: np.ndarray, targets: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Scores(logits, targets)


def test_sure_images_keep_their_order_where_probabilities_round_to_one() -> None:
    logits = np.zeros((3, 2), np.float32)
    logits[:, 0] = 20, 30, 25
    scores = Scores(logits, np.zeros(3, np.int64))
    assert (scores.probs[:, 0] == 1).all()
    assert scores.log_probs[:, 0].argsort().tolist() == [0, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_halves_are_disjoint_and_cover_all(count: int) -> None:
    first, second = halves(count)
    assert sorted([*first, *second]) == list(range(count))
    assert 0 <= len(second) - len(first) <= 1


def test_rows_are_computed_alike_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = random_scores(100, 9)
    expected = whole.log_probs, whole.true_rank
    monkeypatch.setattr("vtrain.report.scores.CHUNK", 20)
    again = random_scores(100, 9)
    np.testing.assert_array_equal(again.log_probs, expected[0])
    np.testing.assert_array_equal(again.true_rank, expected[1])
