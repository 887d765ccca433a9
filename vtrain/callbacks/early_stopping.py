"""When to stop a run that no longer improves."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from vtrain.errors import ConfigError
from vtrain.registry import suggest


class EarlyStopping:
    """Say stop when `metric` has not gained more than `min_gain` for `patience` evaluations.

    A metric that is not a number never counts as a gain.

    Args:
        metric: Key of an evaluation's result, such as `val/top1`.
        mode: Whether `max` or `min` is good.
        patience: Evaluations without a gain, in a row, that end the run.
        min_gain: How far the best value must be passed to count, in the metric's own unit.
    """

    def __init__(
        self, metric: str, mode: Literal["max", "min"], patience: int, min_gain: float = 0.0
    ) -> None:
        self.metric, self.mode, self.patience, self.min_gain = metric, mode, patience, min_gain
        self.best: float | None = None
        self.stale = 0

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Take in one evaluation and return whether the run should stop.

        Raises:
            ConfigError: The evaluation has no such metric.
        """
        if self.metric not in metrics:
            raise ConfigError(
                f"unknown metric '{self.metric}'", hint=suggest(self.metric, list(metrics))
            )
        if self.is_gain(metrics[self.metric]):
            self.best, self.stale = metrics[self.metric], 0
        else:
            self.stale += 1
        return self.stale >= self.patience

    def is_gain(self, value: float) -> bool:
        """Return whether `value` is better than the best so far by more than `min_gain`."""
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.mode == "max" else self.best - value
        return gain > self.min_gain

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.stale = state["best"], state["stale"]
