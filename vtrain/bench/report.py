"""What a benchmark of a run has found, and what to do about it."""

from dataclasses import dataclass
from typing import Any

from vtrain.bench.stats import Ratio, Summary, summarise

GOOD = 0.95
"""End to end over bare step from which on the data path needs no attention."""


@dataclass(frozen=True)
class Layer:
    """One of the things that are timed."""

    images_per_second: Summary
    windows: list[float]
    """Images per second of each window."""
    peak_memory: int | None
    """Bytes on the device; on a CPU only the process as a whole has a peak."""

    @classmethod
    def of(cls, rates: list[float], peak_memory: int | None) -> "Layer":
        """Return the layer whose windows had these rates."""
        return cls(summarise(rates), rates, peak_memory)

    @property
    def rate(self) -> float:
        """Images per second, the median."""
        return self.images_per_second.median


@dataclass(frozen=True)
class Report:
    """What was measured. Times are in seconds, memory in bytes."""

    machine: dict[str, Any]
    work: dict[str, Any]
    """What is trained, and what one image needs."""
    cold: dict[str, float]
    """How long each part of the start took, once."""
    limit: dict[str, float]
    """The machine's best rates, and the images per second that they would allow."""
    layers: dict[str, Layer]
    end_to_end: Ratio
    """How fast the whole run is beside its bare step, from windows that took turns."""
    noise: float
    """Median relative difference of the bare step's windows that followed each other."""
    split: dict[str, float]
    """Time of each part of a step of the whole run; their sum is that step."""
    kernels: list[dict[str, Any]]
    """The slowest kernels, if a profile was asked for."""
    peak_memory: int
    others_share: float | None
    """Part of the processors that other processes used meanwhile; None: unknown."""
    next: str
    """What holds the run back most."""


def advice(
    layers: dict[str, Layer], end_to_end: float, limit: float, split: dict[str, float]
) -> str:
    """Say in a line what holds the run back most; `end_to_end` is its share of the bare step."""
    bare, data = layers["bare step"].rate, layers["data only"].rate
    if end_to_end < GOOD:
        # The loader alone is slower than the model: no overlap could hide that.
        if data < bare:
            return (
                f"the data path gives {data:.0f} images/s and the model could take {bare:.0f}: "
                "raise data.num_workers, or keep the images in memory with data.cache"
            )
        # It is fast enough by itself, so what costs is work that waits for its turn.
        around = {name: split[name] for name in ("data", "augment", "mixing", "rest")}
        worst = max(around, key=lambda name: around[name])
        return (
            f"end to end is {end_to_end:.0%} of the bare step; of what is around it, '{worst}' "
            f"takes most: {around[worst] / sum(split.values()):.0%} of the time"
        )
    # The data path is good: what is left is the step, of which the limit says how fast it may be.
    slowest = max(split, key=lambda name: split[name])
    return (
        f"the step itself, of which '{slowest}' is {split[slowest] / sum(split.values()):.0%}; its "
        f"kernels alone would need {bare / limit:.0%} of its time (--profile names the slowest)"
    )
