import numpy as np
import pytest

from tests.report.cases import CASES
from vtrain.report.confusion import (
    clustered_order,
    confused_pairs,
    row_normalised,
    worst_classes,
)
from vtrain.report.metrics import confusion_matrix
from vtrain.report.scores import Scores

MATRIX = np.array([[8, 2, 0, 0], [1, 9, 0, 0], [0, 0, 4, 6], [0, 0, 5, 5]])


def test_pairs_join_both_directions() -> None:
    first, second = confused_pairs(MATRIX)
    assert (first.first, first.second, first.first_as_second, first.second_as_first) == (2, 3, 6, 5)
    assert first.count == 11
    assert first.rate == pytest.approx(11 / 20)
    assert (second.first, second.second, second.count) == (0, 1, 3)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_pairs_are_those_of_a_loop(scores: Scores) -> None:
    matrix = confusion_matrix(scores)
    counts = {}
    for i in range(len(matrix)):
        for j in range(i + 1, len(matrix)):
            if matrix[i, j] + matrix[j, i]:
                counts[i, j] = matrix[i, j] + matrix[j, i]
    pairs = confused_pairs(matrix, limit=10**6)
    assert {(p.first, p.second): p.count for p in pairs} == counts
    assert [p.count for p in pairs] == sorted(counts.values(), reverse=True)


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_an_order_names_every_class_once(scores: Scores) -> None:
    order = clustered_order(confusion_matrix(scores))
    assert sorted(order) == list(range(scores.num_classes))


def test_clustering_finds_planted_groups() -> None:
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(4), 5))
    matrix = rng.poisson(np.where(group[:, None] == group, 8, 0.2))
    np.fill_diagonal(matrix, 60)
    ordered = group[clustered_order(matrix)]
    assert np.count_nonzero(np.diff(ordered)) == 3  # each group is in one piece


def test_rows_are_shares_of_the_true_class() -> None:
    np.testing.assert_allclose(row_normalised(MATRIX).sum(1), 1)
    empty = row_normalised(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(empty, [[0.75, 0.25], [0, 0]])


def test_the_worst_classes_have_most_mistakes() -> None:
    assert set(worst_classes(MATRIX, 2).tolist()) == {2, 3}
    assert len(worst_classes(MATRIX, 30)) == 4
