"""Say that something takes long: a bar on a terminal, one line elsewhere."""

import logging
import math
import os
import sys
import time
from types import TracebackType
from typing import Any, ClassVar

from tqdm import tqdm

log = logging.getLogger(__name__)
PATIENCE = 2.0
"""Seconds of silence after which something is said."""
SHORT = 0.5
"""Seconds of work about which nothing is said, however long it was silent before."""


class Progress:
    """Counts what is done of some work; of several processes only the main one shows it.

    Silence counts from one work to the next, and from the start of the command, which has imported
    torch by then: a person waits for all of it.

    Args:
        doing: What is done, such as "listing images".
        unit: What is counted.
        total: How many there are, if that is known.
    """

    _said: ClassVar[float] = -math.inf
    """When something was last said of any work."""

    def __init__(self, doing: str, unit: str, total: int | None = None) -> None:
        self.doing = doing
        now = time.monotonic()
        wait = max(SHORT, PATIENCE - (now - Progress._said))
        self.due = now + wait if _speaks() else math.inf
        self.is_said = False
        self.bar: tqdm[Any] | None = None
        # A daemon has no stderr.
        if self.due < math.inf and sys.stderr is not None and sys.stderr.isatty():
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
        Progress._said = time.monotonic()
        if self.bar is None and not self.is_said:
            log.info("%s ...", self.doing)
        self.is_said = True

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
