"""Logits and targets that the tests of the report share: random ones and degenerate ones."""

from typing import Any

import numpy as np

from vtrain.report.facts import RunFacts
from vtrain.report.predictions import Predictions
from vtrain.report.scores import Scores


def random_scores(
    images: int = 300, classes: int = 7, *, skill: float = 2.0, spread: float = 1.5, seed: int = 0
) -> Scores:
    """Return scores of a model that is right more often the more `skill` it has."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=images)
    logits = spread * rng.standard_normal((images, classes))
    logits[np.arange(images), targets] += skill
    return Scores(logits.astype(np.float32), targets)


def calibrated_scores(images: int, classes: int, *, spread: float = 2.0, seed: int = 0) -> Scores:
    """Return scores whose targets are drawn from their own probabilities."""
    rng = np.random.default_rng(seed)
    logits = (spread * rng.standard_normal((images, classes))).astype(np.float32)
    # The arg max of logits plus Gumbel noise has the softmax as its distribution.
    return Scores(logits, (logits + rng.gumbel(size=logits.shape)).argmax(1))


def _without(scores: Scores, label: int) -> Scores:
    return scores.take(scores.targets != label)


def _never_predicted(scores: Scores, label: int) -> Scores:
    logits = scores.logits.copy()
    logits[:, label] = -30
    return Scores(logits, scores.targets)


def _constant(images: int, classes: int) -> Scores:
    targets = np.arange(images) % classes
    return Scores(np.zeros((images, classes), np.float32), targets)


def _saturated(scores: Scores) -> Scores:
    """So sure that most confidences round to 1."""
    return Scores(scores.logits * 40, scores.targets)


CASES = {
    "random": random_scores(),
    "two classes": random_scores(100, 2),
    "one class": random_scores(20, 1),
    "one image": random_scores(1, 4),
    "two images": random_scores(2, 4),
    "more classes than images": random_scores(12, 40),
    "class without images": _without(random_scores(), 3),
    "class never predicted": _never_predicted(random_scores(), 2),
    "neither images nor predictions": _without(_never_predicted(random_scores(), 3), 3),
    "only one class has images": Scores(random_scores(50, 5).logits, np.full(50, 2, np.int64)),
    "all right": random_scores(skill=100),
    "all wrong": random_scores(skill=-100),
    "all equal": _constant(30, 6),
    "saturated": _saturated(random_scores()),
    "many classes": random_scores(400, 60),
}


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src="http://127.0.0.1:1/x" onerror="alert(1)">',
    "</style><style>*{display:none}</style>",
    "{{ 7 * 7 }}{% raw %}",
    "</title><base href='http://127.0.0.1:1/'>&amp;",
    "$\\frac{a}{b}$ \u202e\U0001f600",
    "=HYPERLINK(1)",
)
"""Names that would do harm if a page, a figure or a spreadsheet took them for more than text."""


def hostile_predictions(images: int = 60) -> Predictions:
    scores = random_scores(images, len(HOSTILE), skill=1)
    ids = tuple(f"{HOSTILE[n % len(HOSTILE)]}/{n}.png" for n in range(images))
    return Predictions(scores.logits, scores.targets, ids, HOSTILE, {"split": "val"})


def predictions(scores: Scores, **about: object) -> Predictions:
    """Return predictions with plain names."""
    ids = tuple(f"data/{n}.png" for n in range(len(scores)))
    classes = tuple(f"class {k}" for k in range(scores.num_classes))
    return Predictions(scores.logits, scores.targets, ids, classes, {"split": "val", **about})


def facts(name: str = "small/2026-01-01_00-00-00", **changes: object) -> RunFacts:
    """Return what the folder of a finished run says."""
    rows = [{"step": n, "epoch": n / 10, "train/loss": 2 / n, "train/lr": 1e-3} for n in (1, 2, 30)]
    rows += [{"step": 30, "epoch": 3, "val/loss": 0.5, "val/top1": 0.8, "val/top5": 1.0}]
    rows += [{"step": 60, "epoch": 6, "val/loss": 0.6, "val/top1": 0.7, "val/top5": 0.9}]
    content: dict[str, Any] = {
        "config": {"seed": 0, "model": {"name": "vit_ti"}},
        "rows": rows,
        "summary": {"wall_seconds": 10.0, "images_per_second": 50.0, "peak_memory_bytes": 2e9},
        "status": {"state": "finished"},
        "model": {"parameters": 1000},
    }
    return RunFacts(name, f"runs/{name}", **{**content, **changes})
