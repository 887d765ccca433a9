"""What the summary of a run is made from."""

import json
from pathlib import Path

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState


class History(Callback):
    """Remembers the latest rows and the speed.

    Args:
        path: Where the rows of the run before a resume are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.train: Metrics = {}
        self.val: Metrics = {}
        self.rates: list[float] = []

    def on_fit_start(self, state: TrainState) -> None:
        """Take over the last rows of a run that goes on: nothing may be left to do."""
        self.val = state.metrics
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        # Only the rows that the checkpoint counts: `MetricsFile` cuts the others after this.
        for row in map(json.loads, lines[: state.rows]):
            if "train/loss" in row:
                self.train = {name: row[name] for name in row if name.startswith("train/")}

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.train = metrics
        self.rates.append(metrics["train/images_per_second"])

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.val = metrics

    @property
    def images_per_second(self) -> float | None:
        """The median over the rows of this process; None before the first."""
        # A median: the first row has the start of the workers in it, others a busy neighbour.
        return sorted(self.rates)[len(self.rates) // 2] if self.rates else None
