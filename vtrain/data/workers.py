"""Processes that prepare images: what they do, and what happens when one is lost."""

import ctypes
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vtrain import rng
from vtrain.data.samples import Samples
from vtrain.errors import DataError, VtrainError, WorkerError

Prepare = Callable[[Image.Image, int, int], Tensor]
"""Image, index, epoch -> uint8 (3, S, S). A function of its arguments alone."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Images that one worker prepares in one go."""

    indices: list[int]
    epoch: int


@dataclass(frozen=True)
class Piece:
    """The outcome of a job: the images that could be read, and what was wrong with the others.

    Shape: `images` (B, 3, S, S) uint8, in the order of `indices`.
    """

    images: Tensor
    indices: list[int]
    errors: list[tuple[int, VtrainError]]


@dataclass(frozen=True)
class Preparer(Dataset[Piece]):
    """Does jobs. Errors travel as values: an exception may not survive between processes."""

    samples: Samples
    prepare: Prepare
    shape: torch.Size

    def __getitem__(self, job: Job) -> Piece:
        images = torch.empty((len(job.indices), *self.shape), dtype=torch.uint8)
        kept: list[int] = []
        errors: list[tuple[int, VtrainError]] = []
        for index in job.indices:
            try:
                images[len(kept)] = self.prepared(index, job.epoch)
                kept.append(index)
            except VtrainError as error:
                errors.append((index, error))
        return Piece(images[: len(kept)], kept, errors)

    def prepared(self, index: int, epoch: int) -> Tensor:
        """Prepare one image. Shape: (3, S, S) uint8.

        Raises:
            DataError: It cannot be read or prepared.
        """
        try:
            return self.prepare(self.samples.image(index), index, epoch)
        except VtrainError:
            raise
        except Exception as error:  # a class that does not pickle would hang the parent
            wrapped = DataError(
                f"{type(error).__name__} while an image was prepared: {error}",
                self.samples.name(index),
            )
            wrapped.add_note(traceback.format_exc())
            raise wrapped from error


class Workers:
    """Processes that do jobs in order, kept alive between epochs.

    They are forked, so that datasets need not be copied to them; they touch neither the device nor
    torch's threads. They ignore the terminal's and the scheduler's signals, which are the trainer's
    to handle, and the kernel ends them with their parent.

    Args:
        preparer: Does the jobs.
        count: Processes.
        timeout: Seconds to wait for a piece before the run is given up.
    """

    def __init__(self, preparer: Preparer, count: int, timeout: float) -> None:
        self._samples, self._queue = preparer.samples, _JobQueue()
        self._loader = DataLoader(
            preparer,
            batch_size=None,  # a job is a batch already
            sampler=self._queue,
            num_workers=count,
            collate_fn=_same,  # type: ignore[arg-type] # torch's type is for lists of samples
            timeout=timeout,
            worker_init_fn=_Settle(os.getpid()),
            multiprocessing_context="fork",
            # Without its own, the loader would draw a number from the global generator each epoch.
            generator=rng.generator(0),
            persistent_workers=True,
        )
        self._end: Callable[[], Any] = _nothing

    def run(self, jobs: Iterator[Job]) -> Iterator[Piece]:
        """Yield the pieces of `jobs`, in order.

        Raises:
            WorkerError: A worker died, or gave nothing within the timeout.
        """
        self._queue.jobs, self._queue.pending = jobs, deque()
        try:
            for piece in self._start():
                self._queue.pending.popleft()
                yield piece
        except RuntimeError as error:
            lost = worker_error(error, self._waiting_for())
            if lost is None:
                raise
            self.close()
            raise lost from error

    def close(self) -> None:
        """End the processes: those that still answer by asking, the others by force."""
        self._end()
        self._loader._iterator = None  # where torch keeps the processes between epochs

    def _start(self) -> Iterator[Piece]:
        running = self._loader._iterator
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; the docstring says why it is safe here.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            iterator = iter(self._loader)
        if iterator is not running:
            self._end = weakref.finalize(self, _end, iterator)
        return iterator

    def _waiting_for(self) -> str | None:
        if not self._queue.pending:
            return None
        indices = self._queue.pending[0].indices
        more = f" and the next {len(indices) - 1}" if len(indices) > 1 else ""
        return f"{self._samples.name(indices[0])}{more}"


class _JobQueue:
    """The sampler of the workers' loader: the jobs of whatever epoch is running."""

    def __init__(self) -> None:
        self.jobs: Iterator[Job] = iter(())
        self.pending: deque[Job] = deque()

    def __iter__(self) -> Iterator[Job]:
        for job in self.jobs:
            self.pending.append(job)
            yield job

    def __len__(self) -> int:  # torch asks whether there is one
        return sys.maxsize


def _end(iterator: Any) -> None:
    """Stop the workers of torch's `iterator`: by asking, and after two seconds by force."""
    # Torch alone would wait for a worker that hangs, as workers ignore SIGTERM, and its handler of
    # SIGCHLD would report those that are killed here.
    workers = iterator._workers
    with _deaf_to_children():
        killer = threading.Timer(2.0, lambda: [worker.kill() for worker in workers])
        killer.start()
        iterator._shutdown_workers()
        killer.cancel()
        for worker in workers:
            worker.kill()
            worker.join(1.0)  # one that waits for a dead disk cannot even be killed


@contextmanager
def _deaf_to_children() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def worker_error(error: BaseException, waiting_for: str | None = None) -> WorkerError | None:
    """Say what torch means when it reports a lost worker; None for any other error.

    The report may come at any moment, because torch raises it in a handler of SIGCHLD.
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or "DataLoader" not in text:
        return None
    if "timed out" in text:
        return WorkerError(
            "a data worker gave nothing within its time", waiting_for, "is the file system alive?"
        )
    if "Bus error" in text or "shared memory" in text:
        return WorkerError(
            "a data worker ran out of shared memory",
            "/dev/shm",  # noqa: S108 - named, not used
            "raise the container's --shm-size, or set data.num_workers=0",
        )
    return WorkerError(
        "a data worker was killed", waiting_for, "out of memory? lower data.num_workers"
    )


def warn_of_little_shared_memory(num_bytes: int) -> None:
    """Warn before the first batch if what the workers may have in flight does not fit."""
    shared = "/dev/shm"  # noqa: S108 - torch puts tensors between processes there
    if not os.path.isdir(shared):  # noqa: PTH112
        return
    free = shutil.disk_usage(shared).free
    if free < num_bytes:
        logger.warning(
            "%s has %d MB free and the data workers may need %d MB: raise the container's "
            "--shm-size, or set data.num_workers=0",
            shared,
            free // 2**20,
            num_bytes // 2**20,
        )


@dataclass(frozen=True)
class _Settle:
    """What a worker does first."""

    parent: int

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
            if os.getppid() != self.parent:  # it ended before the line above
                os._exit(1)


def _same(piece: Piece) -> Piece:
    return piece


def _nothing() -> None:
    pass
