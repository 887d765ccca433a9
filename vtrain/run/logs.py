"""Where messages go: to a person on stderr, and with all details to `vtrain.log`."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = logging.getLogger("vtrain")


def to_console() -> None:
    """Show information and warnings on stderr, as plain lines; of many processes the main one."""
    ROOT.setLevel(logging.DEBUG)
    logging.raiseExceptions = False  # a full disk under vtrain.log must not spoil the screen
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ROOT.handlers = [handler]


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write everything, with times and tracebacks, to a file while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ROOT.addHandler(handler)
    try:
        yield
    finally:
        ROOT.removeHandler(handler)
        with suppress(OSError):  # a full disk: what ended the run is the error to report
            handler.close()
