"""What ends training early: evaluations without a gain, a stop signal, a process that hangs."""

import signal

import torch

from vtrain import distributed
from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.engine.stop import StopSignals

PEER_SECONDS = 120
"""Longer than a save; the start, which compiles and reads images, may take more than a step."""


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


class StopOnSignal(Callback):
    """Looks for a signal after each step; the processes agree on the largest number received."""

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals

    def on_step_end(self, state: TrainState) -> None:
        received = self.agree()
        if received is not None:
            state.stop_reason = f"stopped by {signal.Signals(received).name}"

    def agree(self) -> int | None:
        """Return the signal that some process has received; every process must ask.

        A signal reaches them one after the other: to look at one's own alone, some may see it and
        others not.
        """
        received = int(distributed.all_max(torch.tensor(self.signals.received or 0)))
        if received:  # also where this process got none: it sets the exit code of all
            self.signals.received = received
        return received or None


class PeerTimeout(Callback):
    """Shortens the wait for a silent process after the first step, so that a hang is found."""

    is_set = False

    def on_step_end(self, state: TrainState) -> None:
        if not self.is_set:  # the first step is done, and with it what may take long
            distributed.set_timeout(PEER_SECONDS)
            self.is_set = True
