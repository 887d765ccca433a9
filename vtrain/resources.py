"""What memory and processors this process may use, also in a container and beside others."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vtrain.errors import DeviceError, StorageError
from vtrain.limits import cores_allowed, memory_allowed, memory_left

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's malloc.h."""


def require_posix() -> None:
    """Refuse a system that lacks what run folders, data workers and limits are built on.

    Raises:
        DeviceError: It is no Linux, macOS or other POSIX system.
    """
    try:
        import fcntl  # noqa: F401 - locks of files
        import resource  # noqa: F401 - limits of processes
    except ImportError as error:
        import platform

        what = f"vtrain runs on Linux and macOS; this system has no {error.name}"
        hint = "on Windows use WSL 2, https://learn.microsoft.com/windows/wsl/install"
        raise DeviceError(what, platform.system() or sys.platform, hint) from None


def require_folder() -> None:
    """Refuse to start in a folder that is gone: libraries in C end the process there.

    Raises:
        StorageError: It was deleted, or may not be entered.
    """
    try:
        Path.cwd()
    except OSError as error:
        what = f"the current folder cannot be used: {error.strerror}"
        raise StorageError(what, hint="change to another folder") from None


def machine_memory() -> int:
    """Return the bytes of memory that the machine or container has in all."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_allowed()
    return memory if limit is None else min(memory, limit)


def free_memory() -> int:
    """Return this process's share of the memory that the machine or container has left."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    left = memory_left()
    return (free if left is None else min(free, left)) // processes_here()


def cpu_count() -> int:
    """Return this process's share of the cores that the machine, container or job has.

    Of a limit of 1.5 cores one is used: two threads that wait for one another would burn the rest.
    """
    allowed = cores_allowed()
    cores = own_cores() if allowed is None else min(own_cores(), max(1, int(allowed)))
    return max(1, cores // processes_here())


def threads_asked() -> int | None:
    """Return how many threads the user wants, by OpenMP's variable; None: nothing is said."""
    first, *_ = os.environ.get("OMP_NUM_THREADS", "").split(",")  # of a list, the outer level's
    return int(first) if re.fullmatch("[1-9][0-9]{0,3}", first.strip()) else None


def own_cores() -> int:
    """Return how many cores this process may run on, whatever limits its time on them."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def processes_here() -> int:
    """Return how many processes of this run share the machine, as `torchrun` tells each of them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)


def keep_freed_memory() -> None:
    """Keep the memory that tensors give back for the next ones; only glibc has this choice.

    By default large blocks go back to the system, which clears and maps them anew when they are
    wanted again: gigabytes at every training step on a CPU. Holes between kept blocks may raise the
    peak a little. What that is worth differs between machines and runs.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)  # no block of its own for a large tensor
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # and none of the common one is given back


def busy_seconds() -> float:
    """Return the seconds that all processors together have worked since the start; 0: unknown."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    # "cpu" and the ticks of all processors; what a virtual machine did not get counts as busy.
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, path.read_text().split("\n", 1)[0].split()[1:]
    )
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / ticks


def own_seconds() -> float:
    """Return the processor time of this process and of those it has started, in seconds."""
    # Ended children are in os.times(), living ones only in /proc.
    ticks = sum(_ticks(child) for child in _children())
    return sum(os.times()[:4]) + ticks / os.sysconf("SC_CLK_TCK")


def _children() -> Iterator[str]:
    """Yield the numbers of living child processes; none where the system does not list them."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # of a thread that has just ended
            yield from listed.read_text().split()


def _ticks(pid: str) -> int:
    """Return the processor time of a process in clock ticks; 0 if it is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended, or the system has no /proc
        return 0
    return int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)
