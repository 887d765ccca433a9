"""When to save: every so many minutes or steps, at each epoch's end, at a stop, and when best."""

import time
from collections.abc import Callable

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.store import CheckpointStore


class Saver(Callback):
    """Writes checkpoints that hold the run's description and its whole state.

    Args:
        store: Where they are kept; None in a process that only hands over its part.
        describe: Makes a checkpoint of this run from its `metrics`, `state` and `is_best`.
        agree: Makes all processes that save decide alike whether the minutes are over.
    """

    def __init__(
        self,
        store: CheckpointStore | None,
        describe: Callable[..., Checkpoint],
        best_metric: str,
        every_minutes: float | None,
        every_steps: int | None,
        agree: Callable[[bool], bool] = bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.describe, self.best_metric = store, describe, best_metric
        self.every_minutes, self.every_steps = every_minutes, every_steps
        self.agree, self.clock = agree, clock
        self.saved_at = clock()
        self.saved_position: tuple[int, int] | None = None

    def on_step_end(self, state: TrainState) -> None:
        if state.epoch_step == 0:
            return  # the epoch's end is saved once it is evaluated
        # A clock and not a timer thread: a save reads the weights, which a step is about to change.
        minutes = (self.clock() - self.saved_at) / 60
        due = self.every_minutes is not None and self.agree(minutes >= self.every_minutes)
        if due or (self.every_steps is not None and state.step % self.every_steps == 0):
            self._save(state)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        # Recorded before it is saved: the checkpoint itself must know that it is the best.
        is_best = state.record_evaluation(metrics, self.best_metric)
        self._save(state, is_best=is_best)

    def on_epoch_end(self, state: TrainState) -> None:
        self._save_unless_saved(state)

    def on_fit_end(self, state: TrainState) -> None:
        self._save_unless_saved(state)

    def _save_unless_saved(self, state: TrainState) -> None:
        if self.saved_position != (state.step, state.evaluated_step):
            self._save(state)

    def _save(self, state: TrainState, *, is_best: bool = False) -> None:
        state.guard.check()  # what is saved is from before the numbers went wrong
        whole = state.state_dict()  # of a sharded model every process must take part
        if self.store is not None:
            checkpoint = self.describe(metrics=state.metrics, state=whole, is_best=is_best)
            self.store.save(checkpoint, state.metrics.get(self.best_metric))
        self.saved_at, self.saved_position = self.clock(), (state.step, state.evaluated_step)
