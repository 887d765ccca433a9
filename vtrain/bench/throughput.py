"""Time a run while it trains, in windows that may take turns with those of a competitor."""

import math
import time
from collections.abc import Callable

import torch

from vtrain.bench.machine import wait
from vtrain.bench.timing import rate
from vtrain.engine.callback import Callback
from vtrain.engine.state import TrainState

TURNS = 15
"""Windows of a run and of its competitor, at least: the interval of a ratio needs more."""


class ThroughputMeter(Callback):
    """Times windows of a run, each followed by one of the competitor, and ends it after enough.

    What slows the machine for longer than two windows slows both, so that their ratio stands. A
    meter is for one run.

    Args:
        images: In an epoch, whose last step may have fewer than `batch_size` of them.
        device: What to wait for at the ends of a window, and only there.
        seconds: Time for all windows, without those of the competitor.
        steps: Steps of a window, an epoch at most.
        competitor: Does as much as a step, and returns how many images it was.
        prefetched: Images that the loader may prepare meanwhile. The steps that use them up are not
            counted: their data cost the run nothing.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        steps_per_epoch: int,
        device: torch.device,
        seconds: float,
        steps: int,
        competitor: Callable[[], int] | None = None,
        prefetched: int = 0,
    ) -> None:
        self.images, self.batch_size, self.steps_per_epoch = images, batch_size, steps_per_epoch
        self.device, self.seconds = device, seconds
        # No window is longer than an epoch: each epoch begins a new one, and that would never end.
        self.steps, self.competitor = min(steps, steps_per_epoch), competitor
        self.cooldown = 1 + math.ceil(prefetched / batch_size)
        """Steps after the competitor's turn that belong to no window."""
        self.rates: list[float] = []
        self.competitor_rates: list[float] = []
        self.spent = 0.0
        """Seconds of the windows so far, of the first and uncounted one too."""
        self._is_warm = False
        self._cooling = 0
        self._first_step = self._first_image = 0
        self._started = 0.0

    def on_fit_start(self, state: TrainState) -> None:
        self._restart(state)

    def on_step_end(self, state: TrainState) -> None:
        # After the competitor the loader is ahead of the run: a window would flatter it.
        if self._cooling:
            self._cooling -= 1
            self._restart(state)
            return
        if self._steps_of(state) - self._first_step < self.steps:
            return
        wait(self.device)  # what the window's steps launched belongs to it
        seconds = time.perf_counter() - self._started
        self.spent += seconds
        if self._is_warm:
            self.rates.append((self.images_of(state) - self._first_image) / seconds)
            if self.competitor is not None:
                self.competitor_rates.append(rate(self.competitor, self.steps, self.device))
                self._cooling = self.cooldown
        self._is_warm = True  # the first window has the start of the loader in it
        if self.spent > self.seconds and len(self.rates) >= TURNS:
            state.stop_reason = "everything is measured"
        self._restart(state)

    def on_epoch_end(self, state: TrainState) -> None:
        self._restart(state)  # what happens between epochs is not part of a step

    def images_of(self, state: TrainState) -> int:
        """Return the images of the run so far; an epoch's last batch may be smaller."""
        return state.epoch * self.images + min(state.epoch_step * self.batch_size, self.images)

    def _steps_of(self, state: TrainState) -> int:
        return state.epoch * self.steps_per_epoch + state.epoch_step

    def _restart(self, state: TrainState) -> None:
        """Begin a window here."""
        wait(self.device)
        self._first_step, self._first_image = self._steps_of(state), self.images_of(state)
        self._started = time.perf_counter()
