"""The mistakes a user can make, one class for each exit code.

    Exception
    |- (any other)           1   a bug in vtrain
    `- VtrainError
        |- ConfigError       2   the command line or the config
        |- DataError         3   a dataset or an image
        |- CheckpointError   4   a checkpoint or model file
        |- StorageError      5   the run folder: space, permission or lock
        |- DeviceError       6   the device, or its memory
        |- DivergedError     7   a loss or gradients that are not finite
        |- WorkerError       8   a data worker or a peer process that is lost
        `- StoppedBySignal   128 + the signal's number, after saving a checkpoint

Every message has the same shape: what is wrong, where, and what to do. `cli.main` is the only place
that turns an exception into an exit code.
"""

import errno
import os
from collections.abc import Iterable


class VtrainError(Exception):
    """A mistake or mishap that vtrain can name; each direct subclass has an exit code.

    Args:
        what: What is wrong, with the value that was given.
        where: The file or key it concerns.
        hint: What the user can do about it.
    """

    exit_code = 1  # no subclass keeps it

    def __init__(self, what: str, where: object = None, hint: str | None = None) -> None:
        super().__init__(what, where, hint)  # all arguments, so that the error pickles
        self.what, self.where, self.hint = what, where, hint

    def lines(self) -> list[str]:
        """Return the messages, one line for each mistake, safe to print on a terminal."""
        where = "" if self.where is None else f" ({self.where})"
        hint = "" if self.hint is None else f": {self.hint}"
        return [printable(f"{self.what}{where}{hint}")]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class ConfigError(VtrainError):
    """The command line or the config is wrong. It may hold several mistakes."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        where: object = None,
        hint: str | None = None,
        others: Iterable["ConfigError"] = (),
    ) -> None:
        super().__init__(what, where, hint)
        self.others = tuple(others)

    @classmethod
    def all_of(cls, mistakes: list["ConfigError"]) -> "ConfigError":
        """Join several mistakes into one error that reports each on its own line."""
        first, *rest = mistakes
        return cls(first.what, first.where, first.hint, rest)

    def lines(self) -> list[str]:
        return super().lines() + [line for other in self.others for line in other.lines()]


class DataError(VtrainError):
    """A dataset or an image cannot be used."""

    exit_code = 3


class CheckpointError(VtrainError):
    """A checkpoint or model file cannot be used."""

    exit_code = 4


class StorageError(VtrainError):
    """The run folder cannot be written: space, permission or lock."""

    exit_code = 5


class DeviceError(VtrainError):
    """The device is absent or out of memory."""

    exit_code = 6


class DivergedError(VtrainError):
    """The loss or the gradients are no longer finite.

    Args:
        step: The first step whose numbers are not; the weights that it began with are to blame.
    """

    exit_code = 7

    def __init__(self, what: str, where: object = None, hint: str | None = None, step: int = 0):
        super().__init__(what, where, hint)
        self.args = (what, where, hint, step)  # what it is pickled by
        self.step = step


class WorkerError(VtrainError):
    """A data worker or a peer process was lost."""

    exit_code = 8


class StoppedBySignal(VtrainError):  # noqa: N818 - it is an outcome, not an error
    """Training stopped because of a signal, after saving a checkpoint."""

    def __init__(self, what: str, signal_number: int) -> None:
        super().__init__(what)
        self.args = (what, signal_number)  # what it is pickled by
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number  # what a shell reports of such a process


def printable(text: str) -> str:
    """Escape control characters, so that a hostile file name cannot steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, word: str, plural: str | None = None) -> str:
    """Return a number with what is counted, such as `1 step` or `2,000 steps`."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def shortened(text: str, most: int = 80) -> str:
    """Cut a text that a user gave, so that an error stays a line and repeats no private file."""
    return text if len(text) <= most else text[: most - 3] + "..."


NO_PLACE = {
    errno.ENAMETOOLONG: "the name is too long for a file",
    errno.EACCES: "permission denied",
}
"""What a path may meet wherever it is looked up, long before the file is opened."""


def no_place(error: BaseException) -> ConfigError | None:
    """Return the mistake behind an error of looking up a path; None if it is something else."""
    if not isinstance(error, OSError) or error.errno not in NO_PLACE:
        return None
    named = error.filename if isinstance(error.filename, str | os.PathLike) else None
    where = None if named is None else shortened(os.fsdecode(named))
    return ConfigError(NO_PLACE[error.errno], where, "name another")
