"""What a container or a job scheduler allows this process: cores and memory.

Linux puts a process into control groups, which form a tree, and the tightest limit on the way to
the root counts. Version 2 has one tree, version 1 one for each kind of resource; both may be there.
Inside a container the group's own path is often not to be seen, and the root stands for it.
Source: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where the trees are; absent where there are none."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""Says for each tree in which group this process is."""
UNLIMITED = 1 << 60
"""Version 1 states an absurdly large number of bytes where there is no limit."""


def cores_allowed() -> float | None:
    """Return how many cores the limits allow, such as 1.5; None where there is no limit."""
    return min((*_quotas(), *_job_cores()), default=None)


def memory_allowed() -> int | None:
    """Return the bytes of memory that the limits allow in all; None where there is no limit."""
    return min((limit for limit, _ in _memory()), default=None)


def memory_left() -> int | None:
    """Return the bytes that may still be taken; None where there is no limit.

    Files that the kernel keeps in memory, and would give up at once, count as free.
    """
    return min((max(0, limit - used) for limit, used in _memory()), default=None)


def _quotas() -> Iterator[float]:
    """Yield microseconds of processor time a microsecond, as each group allows."""
    for group in groups(""):
        quota, period = _number(group / "cpu.max"), _number(group / "cpu.max", 1)
        if quota is not None and period:
            yield quota / period
    for group in groups("cpu"):
        quota = _number(group / "cpu.cfs_quota_us")  # -1: no limit
        period = _number(group / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period


def _job_cores() -> Iterator[float]:
    """Yield the cores that Slurm gave, which not every cluster enforces."""
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    if given.isdecimal() and int(given):
        yield float(given)


def _memory() -> Iterator[tuple[int, int]]:
    """Yield each group's limit and what is used of it, in bytes."""
    for tree, limit_name, used_name, file_name in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for group in groups(tree):
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is not None and used is not None and limit < UNLIMITED:
                yield limit, max(0, used - _of_files(group / "memory.stat", file_name))


def _of_files(path: Path, name: str) -> int:
    """Return the bytes of files in memory that nobody has used for a while."""
    try:
        lines = path.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[:1] == [name])
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def groups(tree: str) -> Iterator[Path]:
    """Yield this process's group in a tree, and all above it; the one tree of version 2 is ""."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if tree not in kinds.split(","):
            continue
        # With both versions at once, the one tree of version 2 is mounted beside the others.
        for root in (GROUPS / kinds, GROUPS / tree) if tree else (GROUPS, GROUPS / "unified"):
            group = root / path.lstrip("/")
            yield from (level for level in (group, *group.parents) if level.is_relative_to(root))


def _number(path: Path, position: int = 0) -> int | None:
    """Return a number of a file; None where there is no such file, or no limit ("max")."""
    try:
        return int(path.read_text().split()[position])
    except (OSError, ValueError, IndexError):
        return None
