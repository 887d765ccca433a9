"""What a report measures with the model itself, where it is asked to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtrain.report.corruptions import Corruptions
from vtrain.report.intervals import DRAWS, Interval, percentile_interval


@dataclass(frozen=True)
class Speed:
    """Images per second of the model alone, with its input on the device: the median of windows."""

    batch_size: int
    images_per_second: float
    interval: Interval
    windows: int


@dataclass(frozen=True)
class Measured:
    """Empty where nothing was asked for."""

    device: str = ""
    speeds: Sequence[Speed] = ()
    peak_memory_bytes: int = 0
    """While it was timed: on the device, or on a CPU of the whole process."""
    corruptions: Corruptions | None = None


def speed(batch_size: int, rates: Sequence[float], seed: int = 0) -> Speed:
    """Return the median of the windows' rates with its bootstrap interval."""
    values = np.asarray(rates)
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(len(values), size=(DRAWS, len(values)))], axis=1)
    return Speed(batch_size, float(np.median(values)), percentile_interval(medians), len(values))
