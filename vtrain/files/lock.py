"""One writer for each run folder, held by a lock that the kernel frees when the process dies."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from vtrain.errors import StorageError
from vtrain.files import atomic
from vtrain.files.runs import RunFolder

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCKS = Path("/proc/locks")
LARGEST = 4096
"""Bytes of the lock file that are read."""


class RunLock:
    """The right to write in `folder`, from construction to `close` or the end of the process.

    The lock file is never removed, and what it says only informs: the lock is the kernel's, and a
    killed owner leaves it free. Data workers do not inherit it.

    Raises:
        StorageError: Another process holds it; the message says which, where and since when.
    """

    def __init__(self, folder: Path) -> None:
        self.path = RunFolder(folder).lock
        self._descriptor: int | None = self._open()
        try:
            self._take(self._descriptor)
        except BaseException:
            self.close()
            raise
        # A forked data worker that outlived the run would otherwise keep its folder locked.
        os.register_at_fork(after_in_child=self.close)

    def _open(self) -> int:
        # A planted symlink or FIFO must neither be followed nor waited for.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o644)
        except OSError as error:
            raise atomic.explain(error, self.path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError("the lock is not a regular file", self.path, "remove it")
        return descriptor

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"the run folder is locked by {_owner(descriptor)}",
                self.path.parent,
                "wait for that process, or choose another folder with --run-dir",
            ) from None
        except OSError as error:
            # Some network file systems have no locks: better to train unprotected than not at all.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise atomic.explain(error, self.path) from error
            log.warning(
                "%s: this file system has no locks; start one process at a time in this folder",
                self.path.parent,
            )
        with contextlib.suppress(OSError):  # it only informs: a full disk must not stop a resume
            written = os.pwrite(descriptor, json.dumps(_self_description()).encode() + b"\n", 0)
            os.ftruncate(descriptor, written)

    def close(self) -> None:
        """Let go of the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def claim(path: Path, *, wait: bool = False) -> IO[bytes] | None:
    """Return a file to append to that nobody else has by this function, or None if somebody has.

    It is held until every process that has inherited it has closed it, or has ended.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        file = open(path, "ab", buffering=0, opener=_open_no_link)  # noqa: SIM115 - it is kept
    except OSError as error:
        raise atomic.explain(error, path) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        file.close()
        raise atomic.explain(error, path) from error
    return file


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it; a process that was killed holds nothing.

    Raises:
        StorageError: It cannot be made.
    """
    file = claim(path, wait=True)
    assert file is not None, "it was waited for"
    with file:
        yield


def holder(folder: Path) -> str | None:
    """Say who writes in a run folder now, without taking the lock for a moment.

    None if nobody does, or where the system has no list of its locks.
    """
    try:
        descriptor = os.open(RunFolder(folder).lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # /proc/locks names files as major:minor:inode. The device is not compared: btrfs gives
        # each subvolume one of its own, which only `stat` reports.
        inode = f":{os.fstat(descriptor).st_ino}"
        rows = [line.split() for line in LOCKS.read_text().splitlines()]
        held = any("FLOCK" in row and any(part.endswith(inode) for part in row) for row in rows)
        return _owner(descriptor) if held else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _self_description() -> dict[str, Any]:
    boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else None
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "boot_id": boot_id}


def _owner(descriptor: int) -> str:
    for _ in range(50):
        try:
            owner = json.loads(os.pread(descriptor, LARGEST, 0).splitlines()[0])
            return f"pid {owner['pid']} on host {owner['host']} since {owner['since']}"
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            time.sleep(0.02)  # it has just taken the lock, and is about to say so
    return "another process"
