"""Where messages go: to a person on stderr, and with all details to `vtrain.log`."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from vtrain import screen
from vtrain.data.progress import Progress
from vtrain.errors import StorageError
from vtrain.files.atomic import append

ROOT = logging.getLogger("vtrain")
NAMED = re.compile(r"(?=[a-z ]{8}\S)[a-z]{1,7} +\S|weakest ")
"""A row of what a run says at its start or its end: a name of up to seven letters, and a text."""


def to_console() -> None:
    """Show information and warnings on stderr, as plain lines; of many processes the main one."""
    ROOT.setLevel(logging.DEBUG)
    logging.raiseExceptions = False  # a full disk under vtrain.log must not spoil the screen
    handler = _Console(sys.stderr)
    handler.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ROOT.handlers = [handler]  # not one more: two commands in one process would say all twice


@contextmanager
def shown() -> Iterator[None]:
    """Show the same on stderr while the block runs, unless this program logs in its own way."""
    level = ROOT.level
    handler = None if ROOT.hasHandlers() else logging.StreamHandler(sys.stderr)
    # Without a level of its own it would have that of Python, which leaves information out.
    ROOT.setLevel(logging.INFO if handler is None else logging.DEBUG)
    if handler is not None:
        handler.setLevel(logging.INFO)
        ROOT.addHandler(handler)
    try:
        yield
    finally:
        ROOT.setLevel(level)
        if handler is not None:
            ROOT.removeHandler(handler)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write everything, with times and tracebacks, to a file while the block runs."""
    append(path, "")  # what cannot be written is to be known at once
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ROOT.addHandler(handler)
    try:
        yield
    finally:
        ROOT.removeHandler(handler)


class _Console(logging.StreamHandler[TextIO]):
    """Writes messages, those that begin with a name and are wide in several lines if need be."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        Progress.heard()

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        is_row = NAMED.match(text) is not None and "`" not in text
        return screen.fitted(text, self.stream, hanging=8) if is_row else text


class _LogFile(logging.Handler):
    """Appends each message by itself: no link is followed, and nothing waits to be written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(StorageError):  # a full disk: what ends the run is the error to report
            append(self.path, self.format(record) + "\n")
