"""How well features tell classes apart, in their own space: what a t-SNE picture cannot prove.

N images, D features, C classes, d bootstrap samples.

An image that is drawn twice would be its own nearest neighbour, and lie on both sides of a probe's
split. So what is asked of single images (silhouette, k-NN, probe) is answered once, by the images
as they are; the bootstrap then draws the answers. Fisher ratio and effective rank are computed anew
of each sample, which repeated images make larger and smaller than they are. As they do so by about
as much in each sample, the interval is the spread of the samples around their own mean, laid around
the figure of the images as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20
FOLDS = 5
DRAWS = 400
LEVEL = 0.95

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Figure:
    """A figure, or why there is none; of each bootstrap sample it is in `samples`, (d,)."""

    value: float | None
    samples: Array | None = None
    reason: str = ""
    bounds: tuple[float, float] = (-np.inf, np.inf)
    """What the figure cannot be below and above, by its definition."""
    answers: int = 0
    """Of how many answers, right or wrong, it is the share; 0 of anything else."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval at level `LEVEL`.

        Where all answers are alike every sample is, too, and knows no spread: then they are those
        of Clopper and Pearson, Biometrika 26, 1934, which have a closed form there.
        """
        if self.value is None or self.samples is None:
            return None
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low, high = np.quantile(self.samples - self.samples.mean(), ends)
        if self.answers and np.ptp(self.samples) == 0:
            high = 1 - ends[0] ** (1 / self.answers)
            low = -high
        least, most = self.bounds
        return max(self.value + float(low), least), min(self.value + float(high), most)

    def minus(self, other: "Figure") -> "Figure":
        """Return the difference of two figures of the same images, paired sample by sample."""
        if self.value is None or other.value is None:
            return Figure(None, reason=self.reason or other.reason)
        assert self.samples is not None
        assert other.samples is not None
        samples = self.samples - other.samples
        return Figure(self.value - other.value, samples, answers=self.answers)


def separation(
    features: NDArray[np.floating[Any]], labels: Labels, seed: int = 0
) -> dict[str, Figure]:
    """Return every figure of features (N, D) of images with labels (N,), by name.

    The bootstrap samples depend on N and the seed alone, so that those of two models are paired.
    """
    X = features.astype(np.float64)
    count = len(X)
    rng = np.random.default_rng(seed)
    weights = np.stack(
        [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(DRAWS)]
    )
    if count < 2:
        reason = f"one image: there is nothing to compare it with ({count} given)"
        return dict.fromkeys(MEASURES, Figure(None, reason=reason))
    if is_constant(X):
        return dict.fromkeys(
            MEASURES, Figure(None, reason="all images have the same features: they say nothing")
        )
    return {name: one(X, labels, weights) for name, one in MEASURES.items()}


def is_constant(features: NDArray[np.floating[Any]]) -> bool:
    """Return whether all images have the same features but for rounding. Shape: (N, D)."""
    size = float(np.abs(features).max())
    return bool(np.ptp(features, axis=0).max() <= 1e-6 * size)


def share(answers: NDArray[np.bool_], weights: NDArray[np.int64]) -> Figure:
    """Return the share of images with a right answer. Shape: (N,), (d, N)."""
    samples = weights @ answers / weights.sum(1)
    return Figure(float(answers.mean()), samples, bounds=(0, 1), answers=len(answers))


def silhouette(features: Array, labels: Labels, weights: NDArray[np.int64]) -> Figure:
    """Return the mean silhouette by cosine: 1 if classes lie apart, 0 if they touch, -1 if mixed.

    Of an image it is (b - a) / max(a, b), a its mean distance to its own class and b to the nearest
    other one; 0 for the only image of a class (Rousseeuw, J. Comput. Appl. Math. 20, 1987).
    """
    if reason := too_few_classes(labels):
        return Figure(None, reason=reason)
    distances = 1 - cosines(features)
    classes, places = np.unique(labels, return_inverse=True)
    members = np.eye(len(classes))[places]  # (N, C)
    sums, sizes = distances @ members, members.sum(0)
    own = np.arange(len(labels)), places
    a = sums[own] / np.maximum(sizes[places] - 1, 1)  # without itself, at distance 0
    others = sums / sizes
    others[own] = np.inf
    b = others.min(1)
    larger = np.maximum(a, b)
    answers = np.where((sizes[places] > 1) & (larger > 0), (b - a) / np.maximum(larger, 1e-300), 0)
    samples = weights @ answers / weights.sum(1)
    return Figure(float(answers.mean()), samples, bounds=(-1, 1))


def nearest(features: Array, labels: Labels, weights: NDArray[np.int64]) -> Figure:
    """Return the accuracy of the vote of the `NEIGHBOURS` nearest other images by cosine.

    Of classes with as many votes the one with the smallest number wins.
    """
    if len(features) <= NEIGHBOURS:
        reason = f"{NEIGHBOURS} neighbours need {NEIGHBOURS + 1} images: there are {len(features)}"
        return Figure(None, reason=reason)
    if reason := too_few_classes(labels):
        return Figure(None, reason=reason)
    near = cosines(features)
    np.fill_diagonal(near, -np.inf)  # an image does not vote for itself
    chosen = np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBOURS]
    classes, places = np.unique(labels, return_inverse=True)
    votes = np.eye(len(classes))[places][chosen].sum(1)  # (N, C)
    return share(votes.argmax(1) == places, weights)


def probe(features: Array, labels: Labels, weights: NDArray[np.int64]) -> Figure:
    """Return the accuracy of logistic regression on images that it was not fitted to.

    Each image is judged by the fit on the other four of `FOLDS` parts, each with its share of each
    class; features are standardised by those parts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if reason := too_few_classes(labels):
        return Figure(None, reason=reason)
    if np.unique(labels, return_counts=True)[1].max() < 2:
        return Figure(None, reason="no class has two images, one to learn from and one to judge")
    parts, hits = folds(labels), np.zeros(len(labels), dtype=np.bool_)
    for part in range(FOLDS):
        out = parts == part
        seen = labels[~out]
        if not out.any():
            continue
        if len(np.unique(seen)) == 1:  # nothing to fit: it would say that class
            hits[out] = labels[out] == seen[0]
            continue
        fit = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-3))
        hits[out] = fit.fit(features[~out], seen).predict(features[out]) == labels[out]
    return share(hits, weights)


def folds(labels: Labels) -> Labels:
    """Deal the images of each class to the parts in turn. Shape: (N,) -> (N,)."""
    parts = np.zeros(len(labels), dtype=np.int64)
    for one in np.unique(labels):
        members = np.flatnonzero(labels == one)
        parts[members] = np.arange(len(members)) % FOLDS
    return parts


def fisher(features: Array, labels: Labels, weights: NDArray[np.int64]) -> Figure:
    """Return tr(S_B) / tr(S_W): the variance between class means over that within classes."""
    if reason := too_few_classes(labels):
        return Figure(None, reason=reason)
    order = np.argsort(labels, kind="stable")
    X = features[order] - features.mean(0)
    starts = np.unique(labels[order], return_index=True)[1]
    squares = np.square(X).sum(1)
    total = float(squares.sum())

    def ratio(drawn: Array) -> float:
        sizes = np.add.reduceat(drawn, starts)  # (C,)
        sums = np.add.reduceat(drawn[:, None] * X, starts)  # (C, D)
        means = sums[sizes > 0] / sizes[sizes > 0, None]
        centre = sums.sum(0) / drawn.sum()
        between = float(sizes[sizes > 0] @ np.square(means - centre).sum(1))
        within = float(drawn @ squares - sizes[sizes > 0] @ np.square(means).sum(1))
        return between / within if within > 1e-12 * total else np.inf

    value = ratio(np.ones(len(X)))
    if not np.isfinite(value):
        return Figure(None, reason="no class varies within itself: the ratio has no bound")
    samples = np.array([ratio(drawn) for drawn in weights[:, order].astype(np.float64)])
    if not np.isfinite(samples).all():
        return Figure(value, reason="too few images of each class for an interval")
    return Figure(value, samples, bounds=(0, np.inf))


def effective_rank(features: Array, labels: Labels, weights: NDArray[np.int64]) -> Figure:
    """Return exp(entropy of the covariance's eigenvalues): in how many directions features vary.

    Reference: Roy and Vetterli, EUSIPCO 2007, of the covariance.
    """
    X = features - features.mean(0)
    if X.shape[1] > X.shape[0]:  # the same distances in as few dimensions as there are images
        U, S, _ = np.linalg.svd(X, full_matrices=False)
        X = U * S

    def rank(drawn: Array) -> float:
        centred = X - drawn @ X / drawn.sum()
        values = np.linalg.eigvalsh((centred * drawn[:, None]).T @ centred).clip(min=0)
        shares = values[values > 0] / max(values.sum(), 1e-300)
        return float(np.exp(-(shares * np.log(shares)).sum()))

    samples = np.array([rank(drawn) for drawn in weights.astype(np.float64)])
    return Figure(rank(np.ones(len(X))), samples, bounds=(1, np.inf))


def cosines(features: Array) -> Array:
    """Return the cosine of each two images. Shape: (N, D) -> (N, N)."""
    sizes = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(sizes, 1e-300)
    return np.asarray((unit @ unit.T).clip(-1, 1))


def too_few_classes(labels: Labels) -> str:
    """Return why classes cannot be told apart, or nothing."""
    return "one class: there is no other to tell it from" if len(np.unique(labels)) < 2 else ""


MEASURES: Mapping[str, Callable[[Array, Labels, NDArray[np.int64]], Figure]] = {
    "silhouette": silhouette,
    "knn_accuracy": nearest,
    "fisher_ratio": fisher,
    "effective_rank": effective_rank,
    "linear_probe": probe,
}
