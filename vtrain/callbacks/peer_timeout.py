"""Wait for other processes less patiently once training runs."""

from vtrain import distributed
from vtrain.engine.callback import Callback
from vtrain.engine.state import TrainState

SECONDS = 120
"""Longer than a save; the start, which compiles and reads images, may take more than a step."""


class PeerTimeout(Callback):
    """Shortens the wait for a silent process after the first step, so that a hang is found."""

    def __init__(self) -> None:
        self.is_set = False

    def on_step_end(self, state: TrainState) -> None:
        if not self.is_set:  # the first step is done, and with it what may take long
            distributed.set_timeout(SECONDS)
            self.is_set = True
