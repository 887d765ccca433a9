"""What a stop signal does outside of training: it ends the process at once, with nothing half-made.

No exception is raised for it. One that arrives inside an import, a callback from C or a `__del__`
is turned into another error there, or is lost. This module imports nothing that takes time: until
`end_at_once` is called, a signal is Python's own to handle.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)  # Windows has two of them
)
"""End of a job, Ctrl-C, Slurm's warning before the time limit, and a closed terminal."""

Undo = Callable[[int], object]
"""Removes what is half-made, or records how it ended; it is told the signal's number."""
_undo: list[Undo] = []
_owner: int | None = None
_held: list[int] | None = None
"""Signals that wait for the end of a block; None outside of such a block."""


def end_at_once() -> None:
    """From now on a stop signal ends this process: exit code 128 + n, one line, no traceback."""
    global _owner  # noqa: PLW0603 - signal handlers are the process's, too
    _owner = os.getpid()
    for number in handled():
        signal.signal(number, _end)


def handled() -> Iterator[int]:
    """Yield the stop signals that this process may act on."""
    for number in STOP_SIGNALS:
        # `nohup` ignores it, so that a run outlives its terminal. Ctrl-C is handled all the same:
        # a shell ignores it for what a script starts by `&`, which a person still wants to stop.
        if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
            continue
        yield number


def ending_with_parent(number: int, parent: int | None = None) -> Callable[[], None]:
    """Return what a new process calls to get a signal when its parent ends, however that ends.

    The parent is this process, unless another one is named.

    Where the kernel cannot do that it changes nothing.
    """
    import ctypes

    parent = os.getpid() if parent is None else parent
    # Found here: a process that was just forked is not to import anything.
    control = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def watch() -> None:
        if control is None:
            return
        control(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), number)

    return watch


PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: the signal that a process gets when its parent ends."""


@contextmanager
def undone_by_signal(undo: Undo) -> Iterator[None]:
    """Call `undo` if a signal ends the process within the block; the newest is called first."""
    _undo.append(undo)
    try:
        yield
    finally:
        _undo.remove(undo)


@contextmanager
def held_back() -> Iterator[None]:
    """Let a signal wait for the end of the block.

    For what makes several things at once that `undone_by_signal` can only take away together. A
    block that takes long would look as if Ctrl-C were lost.
    """
    global _held  # noqa: PLW0603 - as above
    _held = held = list[int]()
    try:
        yield
    finally:
        _held = None
        if held:
            _end(held[0], None)


def _end(number: int, frame: FrameType | None) -> None:
    if _held is not None and os.getpid() == _owner:
        _held.append(number)
        return
    if os.getpid() == _owner:  # a forked worker has nothing to undo and nothing to say
        for other in STOP_SIGNALS:  # a second Ctrl-C must not leave the rest half-made
            signal.signal(other, signal.SIG_IGN)
        for undo in reversed(_undo):
            with suppress(Exception):  # the others are to be tried all the same
                undo(number)
        _say_so()
    os._exit(128 + number)  # no handler of an exception or of the exit may hold it up


def _say_so() -> None:
    if os.environ.get("RANK", "0") != "0":  # of many processes the main one speaks
        return
    # Straight to the descriptor: the signal may have interrupted a write to `sys.stderr`.
    with suppress(OSError, ValueError, AttributeError):
        line = b"vtrain: stopped at once; what was saved before is intact\n"
        # A terminal's cursor stands behind "^C", or in a progress bar.
        os.write(2, b"\n" * sys.stderr.isatty() + line)
