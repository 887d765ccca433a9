"""End training when a stop signal has arrived, at the same step on every process."""

import signal

import torch

from vtrain import distributed
from vtrain.engine.callback import Callback
from vtrain.engine.state import TrainState
from vtrain.engine.stop import StopSignals


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
