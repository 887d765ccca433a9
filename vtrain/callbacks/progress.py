"""What a person sees while training: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Any, TextIO

from tqdm import tqdm

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState


class Progress(Callback):
    """Shows a bar for each epoch, on a terminal only, and one lasting line when it is evaluated."""

    def __init__(self, epochs: int, steps_per_epoch: int, total_steps: int, stream: TextIO) -> None:
        self.epochs, self.steps_per_epoch, self.total_steps = epochs, steps_per_epoch, total_steps
        self.stream, self.terminal = stream, stream.isatty()
        self.bar: tqdm[Any] | None = None
        self.latest: Metrics = {}

    def on_fit_start(self, state: TrainState) -> None:
        self.started, self.first_step = time.monotonic(), state.step

    def on_step_end(self, state: TrainState) -> None:
        if not self.terminal:
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

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.latest = metrics
        if not self.terminal:
            # `vtrain bench` trains beyond the last step, where a total would be wrong.
            of = f"/{self.total_steps}" if state.step <= self.total_steps else ""
            self._line(f"step {state.step}{of}  {self._status(state)}")

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        train = f"loss {self.latest['train/loss']:.4f}  " if self.latest else ""
        self._line(
            f"epoch {state.epoch}/{self.epochs}  {train}val/loss {metrics['val/loss']:.4f}  "
            f"val/top1 {metrics['val/top1']:.4f}  val/top5 {metrics['val/top5']:.4f}  "
            f"{clock(time.monotonic() - self.started)}"
        )

    def on_fit_end(self, state: TrainState) -> None:
        self._close()

    def _status(self, state: TrainState) -> str:
        parts = []
        if self.latest:
            rate = self.latest["train/images_per_second"]
            parts += [f"loss {self.latest['train/loss']:.4f}", f"{rate:.0f} images/s"]
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

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
