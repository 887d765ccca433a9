"""Worker processes that decode images: how they are started, watched and ended."""

import math
import mmap
import os
import re
import resource
import signal
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from vtrain import rng
from vtrain.data.datasets.samples import Samples
from vtrain.data.loading.worker import PIECE, Job, JobDecoder, Piece, Transform, init_worker
from vtrain.errors import VtrainError, WorkerError

PREFETCH = 2
"""Pieces that each worker may be ahead."""
TIMEOUT = 300.0
"""Seconds to wait for a worker."""
FILES_PER_WORKER = 4
"""A pipe to send jobs, and one that tells of its end."""
POLL = 5.0
"""Seconds between looks at whether the workers live."""


class Workers:
    """Worker processes, kept alive between epochs; their results come in the order of the jobs.

    They are forked, so that datasets need not be copied to them; they touch neither the device nor
    torch's threads. They ignore the terminal's and the scheduler's signals, which are the trainer's
    to handle, and the kernel ends them with their parent.

    There are `count` of them; after `timeout` seconds without a piece the run is given up.

    Shape: what `transform` makes of an image has `shape`.
    """

    def __init__(
        self, samples: Samples, transform: Transform, shape: torch.Size, count: int, timeout: float
    ) -> None:
        # One slot for each piece under way, and one for the piece that is being copied.
        slots = (count * PREFETCH + 1, PIECE, *shape)
        # Anonymous memory, which forked processes share without a handle, does not count against
        # /dev/shm, of which containers have little.
        memory = mmap.mmap(-1, math.prod(slots))
        self.ring = torch.frombuffer(memory, dtype=torch.uint8).view(slots)
        self._samples, self._queue = samples, _JobQueue(len(self.ring))
        self._polls = max(1, round(timeout / POLL))
        with _quiet_start():
            self._loader = DataLoader(
                JobDecoder(samples, transform, self.ring),
                batch_size=None,  # a job is a batch already
                sampler=self._queue,
                num_workers=count,
                prefetch_factor=PREFETCH,
                collate_fn=lambda piece: piece,
                timeout=min(POLL, timeout),
                worker_init_fn=partial(init_worker, os.getpid()),
                multiprocessing_context="fork",
                # Without its own, the loader draws a number from the global generator each epoch.
                generator=rng.generator(0),
                persistent_workers=True,
            )
        self._iterator: Any = None
        self._end: Callable[[], Any] | None = None

    def run(self, jobs: Iterator[Job]) -> Iterator[Piece]:
        """Yield the pieces of `jobs`, in order. Each must be copied before the next is asked for.

        Raises:
            WorkerError: A worker died, or did not answer within the timeout.
        """
        self._queue.jobs, self._queue.pending = jobs, deque()
        try:
            self._start()
            while (piece := self._wait()) is not None:
                self._queue.pending.popleft()
                yield piece
                assert self._queue.jobs is jobs, "these workers have begun something else"
        except RuntimeError as error:
            lost = self._diagnose(error)
            self.close()
            if lost is None:
                raise
            raise lost from error

    def close(self) -> None:
        """End the processes: those that still answer by asking, the others by force."""
        if self._end is not None:
            self._end()
        self._iterator = self._loader._iterator = None

    def _start(self) -> None:
        if self._iterator is None:
            check_open_files(self._loader.num_workers)
            check_semaphores()
        with _quiet_start():
            iterator = iter(self._loader)
        if iterator is not self._iterator:
            self._iterator = iterator
            self._end = weakref.finalize(self, _end, iterator)

    def _wait(self) -> Piece | None:
        """Return the next piece, None after the last one.

        Torch looks after its workers only when a wait ends, so the time is cut into short waits.
        They are counted, not timed: a program that was stopped for an hour has not waited.
        """
        for poll in range(1, self._polls + 1):
            try:
                return next(self._iterator, None)
            except RuntimeError as error:
                if "timed out" not in str(error) or poll == self._polls:
                    raise
        raise AssertionError("the last wait returns or raises")

    def _diagnose(self, error: RuntimeError) -> WorkerError | None:
        """Say how a worker was lost and what it was doing; None if the error is of another kind."""
        waiting_for = None
        if self._queue.pending:
            first, *others = self._queue.pending[0].indices
            more = f" and the next {len(others)}" if others else ""
            waiting_for = f"{self._samples.name(first % len(self._samples))}{more}"
        codes = [worker.exitcode for worker in self._iterator._workers] if self._iterator else []
        numbers = [-code for code in codes if code is not None and code < 0]
        return worker_error(error, waiting_for, *numbers)


class _JobQueue:
    """The sampler of the workers' loader: the jobs of whatever epoch is running."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.jobs: Iterator[Job] = iter(())
        self.pending: deque[Job] = deque()

    def __iter__(self) -> Iterator[Job]:
        for number, job in enumerate(self.jobs):
            self.pending.append(job)
            yield replace(job, slot=number % self.slots)

    def __len__(self) -> int:  # torch asks whether there is one
        return sys.maxsize


def _end(iterator: Any) -> None:
    """Stop the workers of torch's `iterator`: by asking, and after two seconds by force."""
    # Torch alone would wait for a worker that hangs, as workers ignore SIGTERM, and its handler of
    # SIGCHLD would report those that are killed here.
    workers = iterator._workers
    with _ignore_sigchld():
        killer = threading.Timer(2.0, lambda: [worker.kill() for worker in workers])
        with suppress(RuntimeError):  # the interpreter may be too far gone for a new thread
            killer.start()
        iterator._shutdown_workers()
        killer.cancel()
        for worker in workers:
            worker.kill()
            worker.join(1.0)  # one that waits for a dead disk cannot even be killed


def check_open_files(workers: int) -> None:
    """Refuse to start workers that would run out of files halfway.

    Raises:
        WorkerError: The process may not open enough files.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = Path("/dev/fd")  # a container without /proc has none
    used = len(list(listed.iterdir())) if listed.is_dir() else 64
    needed = used + FILES_PER_WORKER * workers + 16
    if needed > allowed:
        what = f"{workers} data workers need {needed} open files, but {allowed} are allowed"
        raise WorkerError(what, None, "raise `ulimit -n`, or lower data.num_workers")


def check_semaphores() -> None:
    """Refuse to start workers where processes cannot wait for each other.

    Raises:
        WorkerError: The system has no semaphores to give; torch would leave a half-made loader.
    """
    try:
        get_context("fork").Lock()
    except (OSError, ImportError) as error:
        what = f"data workers cannot start: {getattr(error, 'strerror', None) or error}"
        hint = "set data.num_workers=0, or mount /dev/shm, which semaphores need"
        raise WorkerError(what, "data.num_workers", hint) from error


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start workers without warnings, and with the signals blocked that they will ignore."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with warnings.catch_warnings():
            # Torch takes more workers than cores for a mistake, and Python 3.12 any fork beside
            # threads; `Workers` says why it is safe here.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def _ignore_sigchld() -> Iterator[None]:
    # Only the main thread may set handlers; torch's is set only there.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Name a lost data worker wherever torch reports it, which may be in the middle of a save.

    Raises:
        WorkerError: A data worker was killed.
    """
    try:
        yield
    except VtrainError:  # it says more than torch's report would
        raise
    except Exception as error:
        _restore_sigchld()
        # The report may have interrupted anything, and then be the cause of another error.
        cause: BaseException | None = error
        while cause is not None:
            if lost := worker_error(cause):
                raise lost from error
            cause = cause.__cause__ or cause.__context__
        raise


def _restore_sigchld() -> None:
    """Remove torch's handler of SIGCHLD: a second lost worker must not break the report."""
    while True:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except RuntimeError:  # a signal that had come already was handled before the change
            continue
        except ValueError:  # not the main thread: torch's handler is not there either
            pass
        return


def worker_error(
    error: BaseException, waiting_for: str | None = None, *signals: int
) -> WorkerError | None:
    """Say what torch means when it reports a lost worker; None for any other error.

    The report may come at any moment, because torch raises it in a handler of SIGCHLD.
    """
    text = str(error)
    if not isinstance(error, RuntimeError) or not re.search("DataLoader|open files", text):
        return None
    if "open files" in text:
        return WorkerError("too many open files", None, "raise `ulimit -n`, or use fewer workers")
    if "timed out" in text:
        hint = "does the file system respond?"
        return WorkerError("a data worker timed out", waiting_for, hint)
    if named := re.search(r"killed by signal: ([\w ]+)", text):
        how = f"killed by a signal ({named[1]})"
    elif signals:
        how = f"killed by a signal ({signal.strsignal(signals[0])})"
    else:
        how = "lost"
    hint = "out of memory? lower data.num_workers"
    return WorkerError(f"a data worker was {how}", waiting_for, hint)
