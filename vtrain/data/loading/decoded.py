"""Where the pixels of a batch come from: memory, the device, or a decoder at work ahead of time."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from vtrain.data.datasets.samples import ArraySamples, Samples
from vtrain.data.loading.cache import Cached, CacheMode, as_array, choose, fill
from vtrain.data.loading.unreadable import Unreadable
from vtrain.data.loading.worker import PIECE, Job, JobDecoder, Piece, Transform, decode
from vtrain.data.loading.workers import PREFETCH, TIMEOUT, Workers
from vtrain.data.unused import Unused
from vtrain.errors import DataError, counted
from vtrain.resources import cpu_count

NumWorkers: TypeAlias = Annotated[int, Field(ge=0, le=256)] | Literal["auto"]


class Decoded:
    """Decoded and transformed images: kept beforehand, or made when they are asked for.

    What the transform allows and the memory holds is found out when the first image is needed:
    all results where they are the same in every epoch (`cached`); else the decoded images in
    memory, if they have one size, and only the transform is left to do; else the samples as they
    are. The latter two are done here or in worker processes.

    Images that cannot be read while the cache is filled are reported to `unreadable`, and what is
    not used of others to `unused`; `TrainLoader` explains the other arguments.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform,
        unreadable: Unreadable,
        unused: Unused,
        device: torch.device,
        num_workers: NumWorkers,
        cache: CacheMode,
        timeout: float = TIMEOUT,
    ) -> None:
        self.samples, self.transform, self.unreadable = samples, transform, unreadable
        self.unused = unused
        self.device, self.cache = device, cache
        self.timeout = timeout
        self._num_workers = num_workers
        self._workers: Workers | None = None

    @cached_property
    def cached(self) -> Cached | None:
        """All results of the transform, if they can be and are kept."""
        if self.transform.varies:
            return None
        count = len(self.samples)
        where = choose(self.cache, count * self.shape.numel(), self.device)  # one byte a value
        if where == "none":
            return None
        cached = fill(
            count,
            lambda index: decode(self.samples, self.transform, index, 0, self.unused),
            self.shape,
            threads=cpu_count(),
        )
        for index, error in cached.errors.items():
            self.unreadable.report(index, error)
        # Filled in memory and copied once: decoding needs the CPU anyway.
        return cached.to(self.device) if where == "device" else cached

    @cached_property
    def shape(self) -> torch.Size:
        """The shape of a transformed image: that of the first one that can be read."""
        for index in range(len(self.samples)):
            try:
                return decode(self._stored, self.transform, index, 0).shape
            except DataError as error:
                self.unreadable.report(index, error)
        raise AssertionError("a dataset of bad images alone is refused long before")

    @cached_property
    def num_workers(self) -> int:
        if self._num_workers != "auto":
            return self._num_workers
        if isinstance(self._stored, ArraySamples):
            return 0
        cores = cpu_count()
        # Beside a GPU all cores but one may decode; on a CPU the model needs the cores itself.
        return min(16, max(1, cores - 1)) if self.device.type == "cuda" else min(4, cores // 4)

    @property
    def is_kept(self) -> bool:
        """Whether every image was read beforehand."""
        return self.cached is not None or isinstance(self._stored, ArraySamples)

    @property
    def images_ahead(self) -> int:
        """Images that the workers may have decoded before they are asked for."""
        return PREFETCH * PIECE * self.num_workers if self.cached is None else 0

    def describe(self) -> str:
        """Say where the images come from and who decodes them."""
        count, stored = counted(len(self.samples), "image"), self._stored
        if self.cached is not None:
            text = f"{count} prepared beforehand, {_size_and_place(self.cached.images)}"
        elif isinstance(stored, ArraySamples):
            text = f"{count} decoded beforehand, {_size_and_place(stored.array)}"
        else:
            text = f"{count} decoded as they are needed"
        if self.num_workers and self.cached is None:
            text += f", by {self.num_workers} worker{'s' * (self.num_workers > 1)}"
        return text

    def seconds_per_image(self, count: int) -> float:
        """Read up to `count` images, evenly spread, one after another; return the mean seconds.

        What is kept beforehand is made first, and is not counted. Images that cannot be read are
        left to the one who needs them.
        """
        stored, seconds, done = self._stored, 0.0, 0
        for index in range(0, len(stored), max(1, len(stored) // count)):
            start = time.perf_counter()
            with suppress(DataError):
                decode(stored, self.transform, index, 0)
                seconds, done = seconds + time.perf_counter() - start, done + 1
        return seconds / max(1, done)

    def pieces(self, jobs: Iterator[Job]) -> tuple[Tensor, Iterator[Piece]]:
        """Start on jobs, here or in workers; return the ring that holds the images, and the pieces.

        A slot of the ring is written again once the next piece is asked for: copy it before.

        Shape: ring (slots, PIECE, C, S, S) uint8.
        """
        if not self.num_workers:
            # One slot is enough: `map` starts on a piece only when it is asked for.
            ring = torch.empty((1, PIECE, *self.shape), dtype=torch.uint8)
            return ring, map(JobDecoder(self._stored, self.transform, ring).__getitem__, jobs)
        if self._workers is None:  # started with the first epoch, kept for all others
            self._workers = Workers(
                self._stored, self.transform, self.shape, self.num_workers, self.timeout
            )
        return self._workers.ring, self._workers.run(jobs)

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    @cached_property
    def _stored(self) -> Samples:
        """The samples, decoded beforehand if that is possible and wanted."""
        if not self.transform.varies:  # then transformed images are cached, or none
            return self.samples
        return as_array(self.samples, self.cache, self.transform, self.unused)


def _size_and_place(images: Tensor) -> str:
    where = "in memory" if images.device.type == "cpu" else f"on {images.device}"
    return f"{images.nbytes / 2**20:,.1f} MiB {where}"
