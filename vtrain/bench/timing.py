"""Clocks: windows of time for something that repeats, and watches on parts of something larger."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from vtrain.bench.machine import wait

WINDOWS = 7
"""Windows of time for each thing that is timed, at least."""


def windows(
    work: Callable[[], int],
    seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Repeat `work` for about `seconds` and return the images per second of each window.

    Args:
        work: Does one piece and returns how many images it was.
        seconds: Time for all windows together; there are `WINDOWS` of them or more.
        device: What to wait for at the end of a window, and only there.
        clock: Tells the seconds; `time.process_time` on a machine that others use, with one thread.
    """
    return in_turns([work], seconds, device, clock)[0]


def in_turns(
    works: Sequence[Callable[[], int]],
    seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    least: int = WINDOWS,
) -> list[list[float]]:
    """Return `windows` of several works, `least` of each or more, which take turns.

    A machine whose speed changes in the meantime slows all of them.
    """
    pieces = []
    for work in works:
        work()  # caches and allocators are warm, and what it launched is done
        wait(device)
        start = clock()
        work()
        wait(device)
        pieces.append(max(1, round(seconds / least / (clock() - start))))
    rates: list[list[float]] = [[] for _ in works]
    # All works have as many windows, and the time is theirs together.
    until = clock() + seconds * len(works)
    while clock() < until or len(rates[0]) < least:
        for work, count, own_rates in zip(works, pieces, rates, strict=True):
            own_rates.append(_rate(work, count, device, clock))
    return rates


def rate(work: Callable[[], int], pieces: int, device: torch.device) -> float:
    """Return the images per second of `pieces` calls of `work`, after one that is not counted."""
    work()
    wait(device)  # or the window would pay for what was launched before it
    return _rate(work, pieces, device, time.perf_counter)


def _rate(
    work: Callable[[], int], pieces: int, device: torch.device, clock: Callable[[], float]
) -> float:
    start = clock()
    images = sum(work() for _ in range(pieces))
    wait(device)
    return images / (clock() - start)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time of the block to `seconds[name]`."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass
class Watches:
    """Times calls of an object's methods, each with a wait for the device before and after."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Time spent in each watched method so far."""

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, its time added to `seconds[name]`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            wait(self.device)
            with timed(self.seconds, name):
                result = function(*args, **kwargs)
                wait(self.device)
            return result

        return call

    @contextmanager
    def on(self, owner: object, method: str, name: str) -> Iterator[None]:
        """Watch a method of an object, if there is one, until the block ends."""
        if owner is None:
            yield
            return
        # Something that was already set on the object itself must come back afterwards.
        kept = vars(owner).get(method)
        setattr(owner, method, self.watched(name, getattr(owner, method)))
        try:
            yield
        finally:
            delattr(owner, method)  # the class's own is seen again
            if kept is not None:
                setattr(owner, method, kept)

    def each(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items; the time that it takes to get each is added to `seconds[name]`."""
        # None stands for the end: no item is None.
        following = self.watched(name, lambda: next(items, None))
        while (item := following()) is not None:
            yield item
