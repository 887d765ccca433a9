"""What a callback is: the seven moments of training at which others may act."""

from vtrain.engine.state import Metrics, TrainState


class Callback:
    """Acts beside training. Override the hooks you need; each sees the state and may stop it.

    The trainer calls a list of them, at each event in the order of the list. That order is part of
    what a run does, and `run/build/callbacks.py` keeps it: first what may set `state.stop_reason`
    and what counts evaluations, then what writes and shows, and last the saver, so that a
    checkpoint knows of the rows that are written and of the reason to stop.
    """

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

    def on_fit_failed(self, state: TrainState) -> None:
        """An error or a signal ends training here: close what is open, and wait for its threads."""
