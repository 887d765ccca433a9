"""Profile something that repeats: a trace to look at, and the names of the slowest kernels."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

log = logging.getLogger(__name__)

STEPS = 3


def slowest_kernels(
    work: Callable[[], object], device: torch.device, path: Path, top: int
) -> list[dict[str, Any]]:
    """Trace a few repetitions of warm `work` and return the `top` kernels by their own time.

    On a CPU these are operations. The trace at `path` is for chrome://tracing or ui.perfetto.dev.

    Returns:
        For each its `name`, `share` of the time of all, and `calls` per repetition; nothing where
        the GPU's times may not be read.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    # One cycle, of which nothing is cleared; torch 2.11 warns unless that is said.
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(STEPS):
            work()
    profiler.export_chrome_trace(str(path))
    # Own time: an operation's children are counted for themselves, so that shares add up to 1.
    own_time = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    # On a GPU an operation's own time is that of its kernels, which have rows of their own.
    events = [e for e in profiler.key_averages() if not on_gpu or is_kernel(e)]
    events.sort(key=lambda e: -float(getattr(e, own_time)))
    total = sum(float(getattr(event, own_time)) for event in events)
    if not total:
        log.warning("the profiler saw no kernel: is it allowed to read the GPU's counters?")
        return []
    return [
        {
            "name": event.key,
            "share": float(getattr(event, own_time)) / total,
            "calls": event.count / STEPS,
        }
        for event in events[:top]
    ]


def is_kernel(event: Any) -> bool:
    """Return whether a row of the profiler is a kernel of the GPU, and not a span around some."""
    return bool(event.device_type.name == "CUDA" and not event.is_user_annotation)
