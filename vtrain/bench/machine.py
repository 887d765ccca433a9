"""What the machine is, what it can do at most, and who else is using it."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vtrain.resources import busy_seconds

GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
"""Large enough that the work outgrows the caches and the cost of a call."""
CLEAN = 0.05
"""The part of the processors that others may use before timings count as contended."""


@dataclass(frozen=True)
class Limits:
    """The best rates that this machine shows on the two things that a step is made of."""

    flops: float
    """Floating-point operations per second of a large matrix product."""
    bytes: float
    """Bytes read plus bytes written per second of a large copy."""


def probe(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> Limits:
    """Measure a large matrix product and a large copy, the best of several runs of each.

    The inputs are random: products of zeros switch fewer transistors, and run faster.
    """
    n, size = GEMM_SIZE[device.type], COPY_BYTES[device.type]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Limits(
        flops=2 * n**3 / _best(lambda: torch.mm(a, b), device, seconds / 2),
        bytes=2 * size / _best(lambda: target.copy_(source), device, seconds / 2),
    )


def wait(device: torch.device) -> None:
    """Wait until the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what must be known to repeat a measurement: processor, versions, threads, load."""
    facts: dict[str, Any] = {
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
        "device": str(device),
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def processor() -> str:
    """Return the processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def device_memory(device: torch.device) -> int | None:
    """Return the most memory on a GPU since the last reset."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_peak_memory(device: torch.device) -> None:
    """Begin to look for the most memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


@dataclass
class OtherLoad:
    """Watches how much of the processors is used by processes that are not ours; Linux only."""

    own_seconds: Callable[[], float]
    """Returns the processor time that our processes have used so far."""

    def __post_init__(self) -> None:
        self.before = self._now()

    def share(self) -> float | None:
        """Return the part of the processors that others used since the last call; None: unknown."""
        before, self.before = self.before, self._now()
        wall, busy, own = (b - a for a, b in zip(before, self.before, strict=True))
        if not before[1]:  # no /proc
            return None
        # The system counts in ticks of its own, so the difference may come out below 0.
        return max(0.0, busy - own) / max(wall * (os.cpu_count() or 1), 1e-9)

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), busy_seconds(), self.own_seconds()


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the time of the fastest of several runs."""
    work()
    wait(device)
    # The first call is not counted: it pays for what the others find ready.
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        start = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - start)
    return min(times)


def process_age() -> float:
    """Return the seconds since this process was started; 0: unknown."""
    stat, uptime = Path("/proc/self/stat"), Path("/proc/uptime")
    if not (stat.exists() and uptime.exists()):
        return 0.0
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22, counted from 1
    return float(uptime.read_text().split()[0]) - ticks / float(os.sysconf("SC_CLK_TCK"))
