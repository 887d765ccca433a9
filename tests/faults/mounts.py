"""Small and read-only file systems, seen by one process alone."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from tests.harness import fork

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library that returns 0 or sets errno."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def own_mounts() -> None:
    """Give this process file systems that no other one sees."""
    user, group = os.getuid(), os.getgid()
    call("unshare", CLONE_NEWNS if user == 0 else CLONE_NEWNS | CLONE_NEWUSER)
    if user != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)


def small(folder: Path, size: str) -> Callable[[], None]:
    """Return what makes `folder` a file system of `size` for the process that calls it."""

    def prepare() -> None:
        own_mounts()
        call("mount", b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode())

    return prepare


def read_only(folder: Path) -> Callable[[], None]:
    """Return what makes `folder` read-only for the process that calls it."""

    def prepare() -> None:
        own_mounts()
        call("mount", bytes(folder), bytes(folder), None, MS_BIND, None)
        call("mount", None, bytes(folder), None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)

    return prepare


def available() -> bool:
    """Whether this user may mount for a process of its own."""
    worker = fork()
    if worker == 0:
        code = 1
        try:
            own_mounts()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
