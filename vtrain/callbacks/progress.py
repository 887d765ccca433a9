"""What a person sees while training: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TextIO

from tqdm.auto import tqdm

from vtrain import screen
from vtrain.data import progress
from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState

LEAST = (
    *("val/top5", "val/exact_match", "val/f1_micro", "val/map_micro", "val/f1"),
    *("clock", "loss", "val/loss"),
)
"""What goes first where a line is too long, in this order."""


class Progress(Callback):
    """Shows a bar for each epoch where that can go, and one lasting line when it is evaluated.

    Elsewhere there is also a line for each log within an epoch, unless an epoch is no longer than
    what lies between two.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        total_steps: int,
        stream: TextIO,
        num_classes: int = 1000,
        log_every: int = 1,
    ) -> None:
        self.epochs, self.steps_per_epoch, self.total_steps = epochs, steps_per_epoch, total_steps
        self.stream, self.terminal = stream, screen.shows_bars(stream)
        self.num_classes, self.log_every = num_classes, log_every
        self.bar: tqdm[Any] | None = None
        self.latest: Metrics = {}
        self.held: tuple[int, str] | None = None
        """The step of a line that an evaluation may make superfluous, and the line."""
        self.waiting = ExitStack()
        """Says after a while that the first step is not made yet."""

    def on_fit_start(self, state: TrainState) -> None:
        self.started, self.first_step = time.monotonic(), state.step
        # Of large images, or of a model that is compiled, it may take minutes.
        self.waiting.enter_context(progress.said_if_long("making the first step"))

    def on_fit_failed(self, state: TrainState) -> None:
        self.waiting.close()

    def on_step_end(self, state: TrainState) -> None:
        self.waiting.close()
        if not self.terminal:
            # Another step has been made, and no evaluation came: the line is due.
            if self.held is not None and self.held[0] < state.step:
                self._release()
            return
        # Made with the first step of an epoch, not before: nothing is shown over a long start. A
        # resumed run begins in the middle of one.
        if self.bar is None:
            position = (state.step - 1) % self.steps_per_epoch
            epoch = (state.step - 1) // self.steps_per_epoch + 1
            self.bar = tqdm(
                total=self.steps_per_epoch,
                initial=position,
                desc=f"epoch {epoch}/{self.epochs}",
                file=self.stream,
                leave=False,
                dynamic_ncols=True,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt}{postfix}",
            )
        self.bar.set_postfix_str(self._status(state), refresh=False)
        self.bar.update()
        progress.Progress.heard()
        if state.step % self.steps_per_epoch == 0:  # what comes now may have a bar of its own
            self._close()

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.latest = metrics
        if not self.terminal:
            # `vtrain bench` trains beyond the last step, where a total would be wrong.
            of = f"/{self.total_steps}" if state.step <= self.total_steps else ""
            line = f"step {state.step}{of}  {self._status(state)}"
            if state.step % self.steps_per_epoch == 0 or state.step == self.total_steps:
                self.held = state.step, line  # an evaluation has a line of its own
            elif self.steps_per_epoch > self.log_every:
                self._line(line)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.waiting.close()  # a run may go on with an evaluation
        self.held = None
        is_whole = state.step % self.steps_per_epoch == 0
        done = f"epoch {state.epoch}/{self.epochs}" if is_whole else f"step {state.step}"
        # What is least worth reading goes first where the terminal is narrow.
        parts = {"name": done}
        if self.latest:
            parts["loss"] = f"loss {self.latest['train/loss']:.4f}"
        parts |= {name: f"{name} {v:.4f}" for name, v in worth_showing(metrics, self.num_classes)}
        parts["clock"] = clock(time.monotonic() - self.started)
        if not self.terminal and state.step < self.total_steps:
            parts["left"] = self._speed(state)
        for name in LEAST:
            if len("  ".join(parts.values())) < screen.width(self.stream):
                break
            parts.pop(name, None)
        self._line("  ".join(parts.values()))

    def on_fit_end(self, state: TrainState) -> None:
        self.waiting.close()
        self._release()
        self._close()

    def _release(self) -> None:
        if self.held is not None:
            self._line(self.held[1])
            self.held = None

    def _status(self, state: TrainState) -> str:
        loss = [f"loss {self.latest['train/loss']:.4f}"] if self.latest else []
        return "  ".join([*loss, self._speed(state)]).rstrip()

    def _speed(self, state: TrainState) -> str:
        """Say how fast it goes, and how long it will take."""
        parts = []
        if self.latest:
            parts.append(f"{self.latest['train/images_per_second']:.0f} images/s")
        # Of this process alone: the steps before a resume took another machine's time.
        done, left = state.step - self.first_step, self.total_steps - state.step
        if left >= 0:
            eta = (time.monotonic() - self.started) / max(1, done) * left
            if state.budget is not None:
                eta = min(eta, state.budget.left)
            parts.append(f"ETA {clock(eta)}")
        return "  ".join(parts)

    def _line(self, text: str) -> None:
        self._close()  # or the line would be written into the bar
        print(text, file=self.stream, flush=True)
        progress.Progress.heard()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def worth_showing(metrics: Mapping[str, float], num_classes: int) -> Iterator[tuple[str, float]]:
    """Yield the metrics that say something: of up to five classes the true one is in any five."""
    for name, value in metrics.items():
        if name != "val/top5" or num_classes > 5:
            yield name, value


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
