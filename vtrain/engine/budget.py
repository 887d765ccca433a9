"""A budget of time: how much of it a run has spent, over all its restarts and processes."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vtrain import distributed


class TimeBudget:
    """The minutes that a run may train; evaluations and saves within them count."""

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = 60 * minutes, clock
        self.spent = 0.0
        """Seconds, as all processes agree."""
        self.begin()

    def begin(self) -> None:
        """Let the clock run from now; what was spent before stays spent."""
        self.started = self.clock() - self.spent  # as if it had run since then without a pause

    def tick(self) -> None:
        """Look at the clocks: the slowest process's counts, so that all stay at the same step."""
        spent = torch.tensor(self.clock() - self.started, dtype=torch.float64)
        self.spent = float(distributed.all_max(spent))

    @property
    def elapsed(self) -> float:
        """The fraction that is spent, at the last tick; 1 and more is all."""
        return self.spent / self.seconds

    @property
    def left(self) -> float:
        """Seconds that are left, at the last tick."""
        return max(0.0, self.seconds - self.spent)

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.spent = state["spent"]
        self.begin()  # the time between the save and now is no training
