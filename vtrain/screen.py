"""The one place that writes to the screen: results to stdout, words for people to stderr.

A result that cannot be written is an error, a word is best effort: a terminal that hung up, a full
disk under a log or a reader that went away must not end a training of days.
"""

import errno
import io
import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import TextIO

from vtrain.errors import StorageError, printable

LABEL = "standard output"
ANY_TERMINAL = 80
"""Columns of a terminal that does not know how many it has."""


class ReaderLeftError(Exception):
    """Nobody reads stdout any more, as `| head` does: no mistake, and nothing to say."""


def prepare() -> None:
    """Make stdout and stderr fit for use, whatever state this process has got them in."""
    # The next file that is opened would get the number of a closed one, and C code that prints a
    # warning would write it into a checkpoint. To read /dev/null: a result must not vanish there.
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                descriptor = os.open(os.devnull, mode)
                if descriptor != number:
                    os.dup2(descriptor, number)
                    os.close(descriptor)
    _SAID.clear()
    sys.stdout = _checked(sys.stdout, 1, required=True)
    sys.stderr = _checked(sys.stderr, 2, required=False)


def result(text: str) -> None:
    """Write a result to stdout, and end its last line; nothing at all if there is none.

    Raises:
        StorageError: It cannot be written.
        ReaderLeftError: Nobody reads it.
    """
    if not text:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        _say_what_is_escaped(error, encoding)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


_SAID: set[bool] = set()
"""Which of the two notes on characters this command has given: once is enough."""


def _say_what_is_escaped(error: UnicodeEncodeError, encoding: str) -> None:
    """Say once which kind of character stdout cannot say."""
    unsaid = error.object[error.start : error.end]
    # Python keeps a byte of a file's name that is no UTF-8 as half of a surrogate pair.
    is_no_text = any("\udc80" <= char <= "\udcff" for char in unsaid)
    if is_no_text:
        text = "a name holds bytes that are no text in UTF-8: they are written as escapes"
    else:
        text = (
            f"{LABEL} is written in {encoding}, which lacks {printable(ascii(unsaid[:20]))}: such "
            "characters are written as escapes; PYTHONUTF8=1 or PYTHONIOENCODING=utf-8 keeps them"
        )
    if is_no_text not in _SAID:
        _SAID.add(is_no_text)
        words(text)


def words(text: str) -> None:
    """Write a line for a person to stderr, if that is possible."""
    with suppress(OSError, ValueError):  # ValueError: it was closed
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def width(stream: TextIO) -> int:
    """Return the columns of a terminal; a file has as many as it takes."""
    if not stream.isatty():
        return sys.maxsize
    with suppress(ValueError):
        if given := int(os.environ.get("COLUMNS", "0")):
            return given
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # it only pretends to be one
        columns = shutil.get_terminal_size().columns
    return columns or ANY_TERMINAL  # on a serial line it does not know


def fitted(text: str, stream: TextIO | None = None, hanging: int | None = None) -> str:
    """Return text whose lines break between words where a terminal is too narrow for them.

    Args:
        text: Lines for people; a command in it would no longer be one.
        stream: Where it goes, by default to stdout.
        hanging: Blanks before what follows in a line, by default as many as its first column takes.
    """
    most = width(sys.stdout if stream is None else stream)
    return "\n".join(_broken(line, most, hanging) for line in text.split("\n"))


def _broken(line: str, most: int, hanging: int | None) -> str:
    if len(line) <= most:
        return line
    if hanging is None:
        first = re.match(r" *\S+(?: \S+)* {2,}", line)
        hanging = first.end() if first is not None and first.end() <= most // 2 else 4
    return textwrap.fill(
        line,
        max(most, hanging + 1),
        subsequent_indent=" " * hanging,
        break_long_words=False,  # a path, say, is for the terminal to break: it can be copied
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def shows_bars(stream: TextIO) -> bool:
    """Whether a line there can be written over, as a bar does: on a terminal or in a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel") or stream.isatty()


class _Output(io.RawIOBase):
    """An output that says in our words that it is lost, if it is `required`, and else nothing."""

    def __init__(self, raw: io.RawIOBase, *, required: bool) -> None:
        self.raw, self._required, self._is_lost = raw, required, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        try:
            if not self._is_lost:
                return self.raw.write(data)
        except OSError as error:
            if self._required:
                # What is left in the buffers is then dropped: Python writes it at its end, and
                # would report the same error once more in words of its own.
                self._is_lost = True
                raise _lost(error) from error
        return memoryview(data).nbytes


def _lost(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return ReaderLeftError()
    if error.errno == errno.EBADF:
        return StorageError(f"{LABEL} is closed", hint="send it to a file, or leave it open")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "no space to write the result" if full else "cannot write the result"
    hint = "free some space and run again" if full else "send it somewhere else"
    return StorageError(f"{what}: {error.strerror}", LABEL, hint)


def _checked(stream: TextIO | None, number: int, *, required: bool) -> TextIO:
    """Return a stream that reports errors as we do, and escapes what its encoding cannot say."""
    if stream is None:  # it was closed when Python started
        return _wrapped(io.FileIO(number, "w", closefd=False), "utf-8", required=required)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # `python -u` leaves out the buffer
    if not isinstance(raw, io.RawIOBase) or isinstance(raw, _Output):
        return stream  # a test's or a notebook's, or checked before
    wrapped = _wrapped(raw, stream.encoding, required=required)
    wrapped.reconfigure(line_buffering=getattr(stream, "line_buffering", True))
    wrapped.replaced = stream  # type: ignore[attr-defined] # it would close the file on its way out
    return wrapped


def _wrapped(raw: io.RawIOBase, encoding: str, *, required: bool) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Output(raw, required=required))  # type: ignore[type-var]
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)
