"""End training when the evaluations no longer improve."""

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState


class StopEarly(Callback):
    """Follows `state.early_stopping`: every process sees the same metrics and stops alike."""

    def on_fit_start(self, state: TrainState) -> None:
        self._decide(state)  # a run may go on after the evaluation that ended it

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        if state.early_stopping is not None:
            state.early_stopping.update(metrics)
        self._decide(state)

    def _decide(self, state: TrainState) -> None:
        if state.early_stopping is not None:
            state.stop_reason = state.stop_reason or state.early_stopping.reason
