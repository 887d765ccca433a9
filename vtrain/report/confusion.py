"""Which classes are taken for which: pairs, and the matrix in an order that shows groups."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from vtrain.report.scores import Array

MAX_SHOWN = 30
"""Classes that a matrix with numbers can show."""
MAX_ORDERED = 400
"""Classes up to which the leaves are also put in the best order, whose cost grows as their cube."""


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are taken for each other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    rate: float
    """Mistakes between the two over all images of the two."""

    @property
    def count(self) -> int:
        return self.first_as_second + self.second_as_first


def confused_pairs(matrix: Array, limit: int = 20) -> list[ConfusedPair]:
    """Return the most-confused pairs, both directions joined, the most mistakes first.

    Shape: `matrix` (K, K), rows are the true classes.
    """
    # Above the diagonal alone: each pair once, and no right answer.
    joined = np.triu(matrix + matrix.T, 1)
    first, second = np.nonzero(joined)
    order = np.lexsort((second, first, -joined[first, second]))[:limit]
    support = matrix.sum(1)
    return [
        ConfusedPair(
            int(i),
            int(j),
            int(matrix[i, j]),
            int(matrix[j, i]),
            float(joined[i, j] / max(1, support[i] + support[j])),
        )
        for i, j in zip(first[order], second[order], strict=True)
    ]


def clustered_order(matrix: Array) -> Array:
    """Return an order of the classes in which those that are confused are neighbours.

    The distance of two classes is 1 minus the mean of the two rates of confusion, and groups are
    joined by average linkage. Shape: (K, K) -> (K,).
    """
    count = len(matrix)
    # Two classes are neighbours in any order, and one has no tree.
    if count < 3:
        return np.arange(count)
    rates = row_normalised(matrix)
    distance = 1 - (rates + rates.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", count <= MAX_ORDERED)
    return np.asarray(leaves_list(tree), np.int64)


def row_normalised(matrix: Array) -> Array:
    """Return shares of each true class's images, so that the diagonal is recall."""
    return np.asarray(matrix / np.maximum(matrix.sum(1, keepdims=True), 1))


def worst_classes(matrix: Array, limit: int = MAX_SHOWN) -> Array:
    """Return the classes with the most mistakes, missed and wrongly given together."""
    hits = np.diag(matrix)
    mistakes = matrix.sum(1) + matrix.sum(0) - 2 * hits
    return np.lexsort((np.arange(len(matrix)), -mistakes))[:limit]
