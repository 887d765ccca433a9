"""Write files so that a crash at any instant leaves the old content or the new, never a mix.

The recipe: a new temporary file in the same folder, flush, fsync, rename over the target, fsync of
the folder. The only module of vtrain that opens a file for writing.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from io import BufferedRandom
from pathlib import Path
from typing import Any

from vtrain.errors import StorageError, VtrainError
from vtrain.interrupt import undone_by_signal

log = logging.getLogger(__name__)

PREFIX, SUFFIX = ".vtrain-", ".tmp"  # nobody else's files are called so: they are safe to sweep
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: Path, *, size: int = 0) -> Iterator[BufferedRandom]:
    """Yield a new binary file that becomes `path` when the block ends without an error.

    What was at `path` stays until then; a symlink there is replaced, not followed. The file can be
    read back before it is published. `size` is about how many bytes will be written: it only makes
    the message of a full disk exact.

    Raises:
        StorageError: The file cannot be written; what was at `path` is untouched.
    """
    with _explained(path, size):
        _refuse_special(path)
        with (
            _new_file(path.parent) as (temporary, descriptor),
            os.fdopen(descriptor, "w+b", closefd=False) as file,
        ):
            yield file
            # First the content on the disk, then its name: in the other order a power cut could
            # leave the name of an empty file.
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of `path` by `content`."""
    with replacing(path, size=len(content)) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace the content of `path` by `content`, in UTF-8."""
    write_bytes(path, utf8(content))


def utf8(text: str) -> bytes:
    """Return text as UTF-8; a byte of a file's name that is none itself becomes an escape."""
    return text.encode(errors="backslashreplace")


def write_json(path: Path, content: Any) -> None:
    """Replace the content of `path` by `content` as JSON; NaN and infinity are not JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def append(path: Path, content: str) -> None:
    """Add `content`, in UTF-8, to the end of a log: in one call, so that a kill tears no line.

    Raises:
        StorageError: It cannot be written.
    """
    # No symlink is followed, and a FIFO planted at the path does not wait for a reader.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    with _explained(path, len(content)), os.fdopen(os.open(path, flags, 0o644), "ab") as file:
        file.write(utf8(content))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a file by lines that are there as soon as they are known, and whole at any time.

    What is at `path` stays until the first line comes.

    Raises:
        StorageError: It cannot be written.
    """
    is_begun = False
    for line in lines:
        if not is_begun:
            write_text(path, "")
            is_begun = True
        append(path, line + "\n")


def link(source: Path, path: Path) -> None:
    """Make `path` another name of the file `source` in the same folder, or a copy of it.

    Raises:
        StorageError: Neither can be made; what was at `path` is untouched.
    """
    assert source.parent == path.parent, "a hard link cannot leave its file system"
    # Linked under a temporary name first: `os.link` cannot replace what is at `path`.
    temporary = _temporary(path.parent)
    with undone_by_signal(partial(_discard, temporary)):
        try:
            os.link(source, temporary)
        except OSError:  # not every file system has hard links
            with source.open("rb") as content, replacing(path, size=source.stat().st_size) as file:
                shutil.copyfileobj(content, file, 1 << 20)
            return
        with _explained(path):
            try:
                _refuse_special(path)
                temporary.replace(path)
            finally:
                # POSIX: renaming one hard link over another of the same file leaves both names.
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create the folder `path` with its parents, and prove that files can be written in it.

    Raises:
        StorageError: It cannot be made or written; the message says why.
    """
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)
    refuse_unwritable(path)


def refuse_unwritable(folder: Path) -> None:
    """Prove that files can be written in a folder, before work is done for them.

    Raises:
        StorageError: They cannot be; the message says why.
    """
    with _explained(folder), _new_file(folder) as (probe, _):
        probe.unlink()


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield a new folder in the folder of `beside`, which is removed when the block ends.

    For what other libraries read and write by path before it may have its name.

    Raises:
        StorageError: It cannot be made.
    """
    folder = _temporary(beside.parent)
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    with undone_by_signal(lambda _: remove()):
        with _explained(beside):
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove()


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files that killed processes left in `folder`, and return them.

    A file that is still being written is left alone: its writer holds a lock on it.

    Raises:
        StorageError: The folder cannot be read.
    """
    swept = []
    with _explained(folder):
        leftovers = sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))
    for path in leftovers:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                # A killed writer's lock is gone with it, a living writer's makes this fail.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)
        except OSError as error:
            log.info("%s is left alone: %s", path, error.strerror)
        else:
            swept.append(path)
    return swept


def cause(error: BaseException | None) -> OSError | None:
    """Return the operating system's error behind `error`, which torch hides in its context."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def explain(error: OSError, path: Path, size: int = 0) -> StorageError:
    """Say in one line why `path` could not be written."""
    code = error.errno
    if code in NO_SPACE:
        folder = path if path.is_dir() else path.parent
        return StorageError(
            f"no space to write {path.name}", folder, _space_hint(code, folder, size)
        )
    what, hint = {
        errno.EACCES: ("no permission to write", "choose a folder that you may write in"),
        errno.EPERM: ("no permission to write", "choose a folder that you may write in"),
        errno.EROFS: ("the file system is read-only", "choose a folder on another one"),
        errno.ENOENT: ("the folder does not exist or has vanished", "make it and run again"),
        errno.ENOTDIR: ("a parent of this path is a file", "choose another path"),
        errno.EEXIST: ("this path is a file", "choose another path"),
        errno.EISDIR: ("this path is a folder", "name a file"),
        errno.ENAMETOOLONG: ("the path is too long", "use at most 255 bytes for each name"),
        errno.EIO: (
            "the disk reports an input/output error",
            "check the disk; nothing was replaced",
        ),
        errno.EMFILE: ("too many open files", "raise the limit with `ulimit -n`"),
    }.get(code or 0, (f"cannot write: {error.strerror or error}", None))
    return StorageError(what, path, hint)


def _space_hint(code: int | None, folder: Path, size: int) -> str:
    if code == errno.EFBIG:
        return "the largest file that this process may write is limited; see `ulimit -f`"
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "free some space and run again"
    need = f"about {_megabytes(size)} MB are needed and " if size else ""
    quota = "; your quota is used up" if code == errno.EDQUOT else ""
    return f"{need}{_megabytes(free)} MB are free{quota}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g}" if size < 1e6 else f"{size / 1e6:,.0f}"


@contextlib.contextmanager
def _explained(path: Path, size: int = 0) -> Iterator[None]:
    try:
        yield
    except VtrainError:  # already explained, and closer to the cause
        raise
    except Exception as error:
        os_error = cause(error)
        if os_error is None:
            raise
        raise explain(os_error, path, size) from error


def _temporary(folder: Path) -> Path:
    return folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"


@contextlib.contextmanager
def _new_file(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield a temporary file open for writing, safe from another's `sweep`.

    An error or a signal within the block removes it, unless it was renamed.
    """
    while True:
        path = _temporary(folder)
        with undone_by_signal(partial(_discard, path)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            try:
                with contextlib.suppress(OSError):  # without locks, `sweep` removes nothing
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.lexists(path):  # else it was swept before it was locked
                    yield path, descriptor
                    return
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)


def _discard(path: Path, number: int) -> None:
    path.unlink(missing_ok=True)


def _refuse_special(path: Path) -> None:
    """Renaming over a device would destroy it, and root is allowed to."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise StorageError("this path is not a regular file", path, "name a file")


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the content itself is synced.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
        log.warning(
            "%s: this file system cannot sync folders; a power cut may undo the last save", folder
        )
    finally:
        os.close(descriptor)
