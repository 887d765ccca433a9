"""Say that something takes long: a bar on a terminal, one line elsewhere, and nothing before."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from vtrain import distributed

log = logging.getLogger(__name__)
PATIENCE = 2.0
"""Seconds before anything is said."""


class Progress:
    """Counts what is done of something; of several processes only the main one says so.

    Args:
        doing: What is done, such as "listing images".
        unit: What is counted.
        total: How many there are, if that is known.
    """

    def __init__(self, doing: str, unit: str, total: int | None = None) -> None:
        self.doing, self.started = doing, time.monotonic()
        self.is_said = not distributed.is_main()
        self.bar: tqdm[Any] | None = None
        # A daemon has no stderr.
        if not self.is_said and sys.stderr is not None and sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=doing, unit=f" {unit}", delay=PATIENCE, leave=False)

    def add(self, count: int) -> None:
        """Count what was done since the last call."""
        if self.bar is not None:
            self.bar.update(count)
        elif not self.is_said and time.monotonic() - self.started >= PATIENCE:
            self.is_said = True
            log.info("%s ...", self.doing)

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
