"""`metrics.jsonl`: one JSON object for each log and each evaluation."""

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
        self._append(state, metrics)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self._append(state, metrics)

    def _append(self, state: TrainState, metrics: Metrics) -> None:
        row = {"step": state.step, "epoch": state.epoch, **metrics}
        # Appended before it is counted: a row too many is cut on resume, one too few would be lost.
        append(self.path, json.dumps(row) + "\n")
        state.rows += 1
