"""A command on a terminal of a given width, as a person sees it."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from pathlib import Path

from tests.harness import Command

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_terminal(folder: Path, columns: int, *arguments: object) -> tuple[int, list[str]]:
    """Run a command in `folder`, and return its exit code and the lines that stay on the screen."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen: list[bytes] = []

    def prepare() -> None:
        os.environ.pop("COLUMNS", None)
        for number in (0, 1, 2):
            os.dup2(inside, number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody writes any more
            while piece := os.read(outside, 4096):
                seen.append(piece)

    command = Command(folder, *arguments, prepare=prepare)
    os.close(inside)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = command.wait().code
        reader.join(10)
    finally:
        os.close(outside)
    text = ESCAPES.sub("", b"".join(seen).decode()).replace("\r\n", "\n")
    # Of what was written over a line, as bars are, the last stays.
    return code, [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
