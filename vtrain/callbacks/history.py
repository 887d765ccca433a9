"""`metrics.jsonl`, a JSON object for each log and evaluation, and what a summary makes of it."""

import json
from pathlib import Path

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.files.atomic import append, write_text


class MetricsFile(Callback):
    """Appends rows to a file, and cuts rows that a resumed run is about to repeat."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, state: TrainState) -> None:
        # Rows beyond the checkpoint's count are of steps that are about to be made again.
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        write_text(self.path, "".join(lines[: state.rows]))

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        row = {"step": state.step, "epoch": state.epoch, **metrics}
        # Appended before it is counted: a row too many is cut on resume, one too few would be lost.
        append(self.path, json.dumps(row) + "\n")
        state.rows += 1

    on_eval_end = on_log


class History(Callback):
    """Remembers the latest rows and the speed; `path` has the rows from before a resume."""

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
