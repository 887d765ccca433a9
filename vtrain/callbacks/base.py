"""What a callback is, and the list that passes each event on."""

from vtrain.engine.state import Metrics, TrainState


class Callback:
    """Acts beside training. Override the hooks you need; each sees the state and may stop it."""

    def on_fit_start(self, state: TrainState) -> None:
        """Training is about to begin or to go on."""

    def on_step_end(self, state: TrainState) -> None:
        """An optimizer step is done; reading a tensor here would slow every step."""

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        """The means over the steps since the last row are known."""

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        """The validation images have been evaluated."""

    def on_epoch_end(self, state: TrainState) -> None:
        """A pass over the training images is complete, and evaluated if that was due."""

    def on_fit_end(self, state: TrainState) -> None:
        """Training has ended, at its last step or before."""


class Callbacks(Callback):
    """Passes every event to each callback, in order."""

    def __init__(self, *callbacks: Callback) -> None:
        self.callbacks = callbacks

    def on_fit_start(self, state: TrainState) -> None:
        for callback in self.callbacks:
            callback.on_fit_start(state)

    def on_step_end(self, state: TrainState) -> None:
        for callback in self.callbacks:
            callback.on_step_end(state)

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        for callback in self.callbacks:
            callback.on_log(state, metrics)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        for callback in self.callbacks:
            callback.on_eval_end(state, metrics)

    def on_epoch_end(self, state: TrainState) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(state)

    def on_fit_end(self, state: TrainState) -> None:
        for callback in self.callbacks:
            callback.on_fit_end(state)
