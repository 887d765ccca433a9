"""Logistic regression on features: the linear probe, how well a plane tells classes apart.

The objective is the mean cross entropy plus l2 / 2 times the summed squares of the weights, without
the biases; scikit-learn's `LogisticRegression` with C = 1 / (l2 N) has the same solution. l2 is
chosen on a held-out part of the training images, as in Radford et al. (CLIP), arXiv:2103.00020,
appendix A.3.

N images, D features, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.data.datasets.stratified import hold_out

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))
"""What is tried as l2, on standardised features: from 10 to 1e-6, the strongest first."""
HELD_OUT = 0.2
"""Of each class's training images: what l2 is chosen on."""


class Until(NamedTuple):
    """When a fit ends."""

    gradient: float
    """The largest component of the gradient."""
    steps: int


CHOOSING = Until(1e-4, 100)
"""scikit-learn's own, which is enough to see which l2 is best."""
FINAL = Until(1e-6, 1000)
ROWS = 1 << 13
"""Images that are computed at a time, in float64."""


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier.

    Shape: `weights` (C, D + 1) float64, the biases last, of features less `mean`, (D,), divided by
    `std`, (D,).
    """

    weights: Tensor
    mean: Tensor
    std: Tensor
    l2: float
    is_done: bool
    """Whether the gradient vanished within the steps that a fit may take."""

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits of images. Shape: (B, D) -> (B, C) float64."""
        return standardised(features, self.mean, self.std) @ self.weights.T


@dataclass(frozen=True)
class Probe:
    """A linear probe, and what its strength was chosen by."""

    classifier: Logistic
    held_out: dict[float, float]
    """l2 -> top-1 accuracy on the held-out part of the training images."""

    @property
    def is_at_limit(self) -> bool:
        """Whether the chosen strength is the weakest or the strongest that was tried."""
        return self.classifier.l2 in (STRENGTHS[0], STRENGTHS[-1])


def fit_probe(
    features: Tensor, targets: Tensor, num_classes: int, device: torch.device | str = "cpu"
) -> Probe:
    """Choose l2 on the held-out part, then fit to all images. Shape: (N, D), (N,) int64.

    Of strengths that are as good the strongest is taken.
    """
    out = hold_out(targets, HELD_OUT)
    kept, judged = (~out).nonzero()[:, 0], out.nonzero()[:, 0]
    found: dict[float, float] = {}
    weights = torch.zeros(num_classes, features.shape[1] + 1, dtype=torch.float64, device=device)
    for l2 in STRENGTHS:
        # From the last one: a little less regularised, the solution is near.
        last = fit(features, targets, weights, l2, kept, CHOOSING)
        weights = last.weights
        found[l2] = accuracy(last, features, targets, judged)
    best = max(found, key=lambda l2: found[l2])
    everything = torch.arange(len(targets))
    start = torch.zeros_like(weights)
    return Probe(fit(features, targets, start, best, everything), found)


def fit(
    features: Tensor,
    targets: Tensor,
    start: Tensor,
    l2: float,
    rows: Tensor,
    until: Until = FINAL,
) -> Logistic:
    """Fit to the images of `rows`, (n,) int64, by L-BFGS, from the weights `start`, (C, D + 1)."""
    mean, std = (moment.to(start.device) for moment in moments(features, rows))
    weights = start.clone()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=until.steps,
        max_eval=2 * until.steps,
        tolerance_grad=until.gradient,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        loss = l2 / 2 * weights[:, :-1].square().sum()
        gradient = l2 * weights
        gradient[:, -1] = 0
        for x, y in pieces(features, targets, rows, mean, std):
            logits = x @ weights.T
            loss += F.cross_entropy(logits, y, reduction="sum") / len(rows)
            slope = logits.softmax(1)
            slope[torch.arange(len(y), device=y.device), y] -= 1
            gradient += slope.T @ x / len(rows)
        weights.grad = gradient
        return float(loss)

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    objective()  # a line search need not end with a call at the point that it takes
    return Logistic(weights, mean, std, l2, bool(weights.grad.abs().max() <= 2 * until.gradient))


def accuracy(classifier: Logistic, features: Tensor, targets: Tensor, rows: Tensor) -> float:
    """Return the share of the images of `rows` that a classifier names; of none it is 0."""
    hits = 0
    for part in rows.split(ROWS):  # type: ignore[no-untyped-call]
        logits = classifier.logits(features[part].to(classifier.weights.device))
        hits += int((logits.argmax(1).cpu() == targets[part]).sum())
    return hits / max(1, len(rows))


def pieces(
    features: Tensor, targets: Tensor, rows: Tensor, mean: Tensor, std: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield standardised features, (n, D + 1), and targets, (n,), of some rows at a time."""
    for part in rows.split(ROWS):  # type: ignore[no-untyped-call]
        yield standardised(features[part].to(mean.device), mean, std), targets[part].to(mean.device)


def standardised(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return features of mean 0 and std 1, and a 1 for the bias. Shape: (n, D) -> (n, D + 1)."""
    return F.pad((features.double() - mean) / std, (0, 1), value=1.0)


def moments(features: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and std of each feature over some rows; 1 where it does not vary."""
    parts = rows.split(ROWS)  # type: ignore[no-untyped-call]
    mean = torch.stack([features[part].double().sum(0) for part in parts]).sum(0) / len(rows)
    squares = [(features[part].double() - mean).square().sum(0) for part in parts]
    variance = torch.stack(squares).sum(0) / len(rows)
    # What rounding leaves of a constant is no variation.
    constant = variance <= 1e-12 * mean.square().clamp(min=1e-30)
    return mean, torch.where(constant, 1.0, variance.sqrt())
