"""TensorBoard: curves, the learning-rate schedule, training images, maps of validation images."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)
MAPS_EVERY = 5
"""Epochs between maps of validation images; there are also some of the last evaluation."""


class TensorBoard(Callback):
    """Writes event files; a resumed run hides what an interrupted one wrote after its checkpoint.

    Training goes on without them if they cannot be written. `picture` draws some augmented training
    images, `maps` what the model looks at on validation images, None shows none; `hparams` are the
    config's dotted keys, for the tab of that name, and `metrics` its columns beside them: the last
    values of the curves.
    """

    def __init__(
        self,
        folder: Path,
        picture: Callable[[], Image.Image] | None,
        hparams: Mapping[str, object] | None = None,
        maps: Callable[[], Image.Image] | None = None,
        metrics: Sequence[str] = ("val/top1", "val/top5", "val/loss"),
    ) -> None:
        self.metrics = metrics
        self.folder, self.picture, self.hparams = folder, picture, hparams or {}
        self.maps, self.maps_due = maps, False
        self.writer: SummaryWriter | None = None

    def on_fit_start(self, state: TrainState) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        threading.excepthook = _ignore_writer_errors
        with self._best_effort():
            # Event files cannot be cut: TensorBoard hides what has this step or a later one.
            self.writer = SummaryWriter(str(self.folder), purge_step=state.step + 1)
            # Once for the run: a resumed one would draw the same picture again.
            if self.picture is not None and state.step == 0:
                pixels = np.asarray(self.picture())
                self.writer.add_image("train/images", pixels, 0, dataformats="HWC")
            if self.hparams and state.step == 0:
                self._add_hparams(self.writer)

    def _add_hparams(self, writer: "SummaryWriter") -> None:
        """Describe the run; `add_hparams` would add a point to the curves, and a further folder."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in self.hparams.items()
        }
        for summary in hparams(plain, dict.fromkeys(self.metrics, 0.0)):  # type: ignore[no-untyped-call]
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self._scalars(state, metrics)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self._scalars(state, metrics)
        self.maps_due = True
        if state.epoch % MAPS_EVERY == 0:
            self._maps(state)
        with self._best_effort():
            if self.writer is not None:
                self.writer.flush()

    def on_fit_end(self, state: TrainState) -> None:
        if state.step == state.evaluated_step:  # else a signal has left only seconds
            self._maps(state)
        self._close()

    def on_fit_failed(self, state: TrainState) -> None:
        # Its thread would make the file again after the run has taken its files away.
        with contextlib.suppress(Exception):  # what ended the run is what to report
            self._close()

    def _close(self) -> None:
        with self._best_effort():
            if self.writer is not None:
                self.writer.close()

    def _maps(self, state: TrainState) -> None:
        """Draw validation images, once for each evaluation."""
        if self.maps is not None and self.maps_due:
            with self._best_effort():
                if self.writer is not None:
                    pixels = np.asarray(self.maps())
                    self.writer.add_image("val/explain", pixels, state.step, dataformats="HWC")
        self.maps_due = False

    def _scalars(self, state: TrainState, metrics: Metrics) -> None:
        with self._best_effort():
            for name, value in metrics.items():
                if self.writer is not None:
                    self.writer.add_scalar(name, value, state.step)

    @contextlib.contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.writer = None  # from now on every hook does nothing
            log.warning("TensorBoard's files cannot be written (%s); going on", error.strerror)


def _ignore_writer_errors(lost: threading.ExceptHookArgs) -> None:
    """Print what ended a thread, but not of TensorBoard's writer, which hands it to its caller."""
    if not (isinstance(lost.exc_value, OSError) and "Writer" in type(lost.thread).__name__):
        threading.__excepthook__(lost)
