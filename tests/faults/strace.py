"""Lets strace kill a process, or fail it, at any system call of a piece of work."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.harness import fork

CALLS = (
    *("openat", "write", "pwrite64", "ftruncate", "fsync", "close", "mkdir", "flock"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
"""All that a save asks of the system and that changes something."""


def available() -> bool:
    """Whether strace is installed and may trace a child of ours."""
    if shutil.which("strace") is None:
        return False
    return traced(lambda: None, "-e", "trace=none") == 0


def traced(work: Callable[[], object], *options: str, timeout: float = 60) -> int | None:
    """Do `work` in a forked process under strace.

    Returns:
        Its exit code: 0, 1 if it raised, negative if a signal ended it; None if it was not traced.
    """
    worker = fork()
    if worker == 0:
        code = 1
        try:
            os.kill(os.getpid(), signal.SIGSTOP)  # until strace is there
            work()
            code = 0
        finally:
            os._exit(code)
    os.waitpid(worker, os.WUNTRACED)
    command = ["strace", "-f", "-q", "-p", str(worker), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        status = Path(f"/proc/{worker}/status")
        deadline = time.monotonic() + timeout
        while re.search(r"TracerPid:\s+0\n", status.read_text()):
            if strace.poll() is not None:
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)
                return None
            time.sleep(0.001)
        os.kill(worker, signal.SIGCONT)
        while True:
            ended, code = os.waitpid(worker, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(worker, signal.SIGKILL)
            time.sleep(0.001)
        with contextlib.suppress(subprocess.TimeoutExpired):
            strace.wait(5)
        strace.kill()
    return os.waitstatus_to_exitcode(code)


def counted(work: Callable[[], object], log: Path) -> list[tuple[str, int]]:
    """Return each system call of `work` as its name and its number among those of that name."""
    traced(work, "-o", str(log), "-e", f"trace={','.join(CALLS)}")
    seen: collections.Counter[str] = collections.Counter()
    points = []
    for line in log.read_text().splitlines():
        if found := re.match(r"\d+ +(\w+)\(", line):
            seen[found[1]] += 1
            points.append((found[1], seen[found[1]]))
    return points


def killed_at(
    work: Callable[[], object], call: str, number: int, signal_name: str = "SIGKILL"
) -> int | None:
    """Do `work`, but send the process a signal when it enters a system call."""
    inject = f"inject={call}:signal={signal_name}:when={number}"
    return traced(work, "-o", os.devnull, "-e", f"trace={call}", "-e", inject)


def failed_at(work: Callable[[], object], call: str, number: int, error: str) -> int | None:
    """Do `work`, but let one system call fail with `error`, such as `ENOSPC`."""
    inject = f"inject={call}:error={error}:when={number}"
    return traced(work, "-o", os.devnull, "-e", f"trace={call}", "-e", inject)
