"""Say that something takes long: a bar on a terminal, one line elsewhere."""

import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from vtrain import screen

if TYPE_CHECKING:  # every command loads this module, and few show a bar
    from tqdm import std

log = logging.getLogger(__name__)
PATIENCE = 2.0
"""Seconds of silence after which something is said."""
SHORT = 0.5
"""Seconds of work about which nothing is said, however long it was silent before."""


class Progress:
    """Counts what is done of some work; of several processes only the main one shows it.

    Silence counts from the last word on the screen, and from the start of the command, which has
    imported torch by then: a person waits for all of it.

    Args:
        doing: What is done, such as "listing images".
        unit: What is counted.
        total: How many there are, if that is known.
    """

    _said: ClassVar[float] = -math.inf
    """When something was last said."""

    def __init__(self, doing: str, unit: str, total: int | None = None) -> None:
        self.doing = doing
        wait = max(SHORT, Progress.patience())
        self.due = time.monotonic() + wait if _speaks() else math.inf
        self.is_said = False
        self.bar: std.tqdm[Any] | None = None
        # A daemon has no stderr.
        if self.due < math.inf and sys.stderr is not None and screen.shows_bars(sys.stderr):
            from tqdm.auto import tqdm

            columns, rows = _size()
            self.bar = tqdm(
                total=total,
                desc=doing,
                unit=f" {unit}",
                delay=wait,
                leave=False,
                ncols=columns,
                nrows=rows,
            )

    def add(self, count: int) -> None:
        """Count what was done since the last call."""
        if self.bar is not None:
            self.bar.update(count)
        if time.monotonic() < self.due:
            return
        Progress.heard()
        if self.bar is None and not self.is_said:
            log.info("%s ...", self.doing)
        self.is_said = True

    @classmethod
    def heard(cls) -> None:
        """Count silence from now on: something was said, of this work or of another."""
        cls._said = time.monotonic()

    @classmethod
    def silence(cls) -> float:
        """Return for how many seconds nothing was said."""
        return time.monotonic() - cls._said

    @classmethod
    def patience(cls) -> float:
        """Return for how many seconds more nothing need be said; 0 or less if it is time."""
        return PATIENCE - cls.silence()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()


@contextmanager
def said_if_long(doing: str) -> Iterator[None]:
    """Say once what a block does that takes long and cannot be counted, if nothing else is said."""
    if not _speaks():
        yield
        return
    done = Event()

    def watch() -> None:
        wait = PATIENCE
        while not done.wait(wait):
            wait = Progress.patience()  # something may have been said meanwhile
            if wait <= 0:
                Progress.heard()
                log.info("%s ...", doing)
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()  # or its line could come behind what the block ends with


def _speaks() -> bool:
    """Whether this is the main process. Without torch it is the only one: `predict` needs none."""
    if "torch" not in sys.modules:
        return True
    from vtrain import distributed

    return distributed.is_main()


def _size() -> tuple[int, int] | tuple[None, None]:
    """Return columns and rows for a terminal that does not know its own; tqdm asks all others."""
    try:
        known = all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError):  # not a terminal of the system's
        return None, None
    # A console on a serial line or in a container has none, and of 0 columns tqdm shows nothing.
    return (None, None) if known else (80, 24)
