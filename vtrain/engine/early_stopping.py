"""When to stop a run that no longer improves."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import NonNegativeFloat, PositiveInt

Metric: TypeAlias = Literal[
    "val/top1",
    "val/top5",
    "val/loss",
    "val/map",
    "val/map_micro",
    "val/f1",
    "val/f1_micro",
    "val/exact_match",
]
"""What evaluations give: from `val/map` on those of images of several labels."""


class EarlyStopping:
    """Say stop when `metric` has not gained more than `min_gain` for `patience` evaluations.

    The keywords are the keys of `train.early_stopping`. A metric that is not a number never counts
    as a gain, and of equal values the first stays the best.

    Args:
        metric: What is watched.
        mode: Whether a large or a small value of it is good.
        patience: Evaluations without a gain, in a row, that end the run.
        min_gain: How far the best value must be passed to count, in the metric's own unit.
    """

    def __init__(
        self,
        *,
        metric: Metric,
        mode: Literal["max", "min"],
        patience: PositiveInt,
        min_gain: NonNegativeFloat = 0.0,
    ) -> None:
        self.metric, self.mode, self.patience, self.min_gain = metric, mode, patience, min_gain
        self.best: float | None = None
        self.stale = 0

    def update(self, metrics: Mapping[str, float]) -> None:
        """Take in one evaluation."""
        # Against the best, not the last: many small gains, none above `min_gain`, are one if they
        # add up to it.
        if self.is_gain(metrics[self.metric]):
            self.best, self.stale = metrics[self.metric], 0
        else:
            self.stale += 1

    def is_gain(self, value: float) -> bool:
        """Return whether `value` is better than the best so far by more than `min_gain`."""
        if math.isnan(value):  # every comparison with it would be false
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.mode == "max" else self.best - value
        return gain > self.min_gain

    @property
    def reason(self) -> str | None:
        """Why the run should stop now, in words; None if it should go on."""
        if self.stale < self.patience:
            return None
        times = "1 evaluation" if self.stale == 1 else f"{self.stale} evaluations in a row"
        if self.best is None:  # no evaluation gave a number
            return f"{self.metric} was not a number in {times}"
        gain = f" by more than {self.min_gain:g}" if self.min_gain else ""
        return f"{self.metric} was not better than {self.best:.4f}{gain} in {times}"

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.stale = state["best"], state["stale"]
