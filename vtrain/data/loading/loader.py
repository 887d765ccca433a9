"""From samples to batches of bytes on the device, in an order that only (seed, epoch) decide.

The training order is a permutation of the samples, a global batch a slice of it, and a process's
share a piece of the batch. Neither the number of workers, nor the cache, nor where an epoch is
entered changes what is in a batch.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice, tee
from typing import Annotated, Literal, TypeAlias

import torch
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import ArraySamples, Samples, subset
from vtrain.data.datasets.splits import balanced_order
from vtrain.data.loading.cache import Cached, CacheMode, as_array, choose, fill
from vtrain.data.loading.repeats import repeated
from vtrain.data.loading.workers import (
    PIECE,
    PREFETCH,
    Job,
    Piece,
    Prepare,
    Preparer,
    Workers,
    prepared,
)
from vtrain.distributed import Rank
from vtrain.errors import DataError, VtrainError
from vtrain.resources import cpu_count

OnBadImage: TypeAlias = Literal["error", "skip"]
NumWorkers: TypeAlias = Annotated[int, Field(ge=0, le=256)] | Literal["auto"]
BAD_HINT = "`vtrain check CONFIG --data` lists all; data.on_bad_image=skip leaves them out"
TIMEOUT = 300.0
"""Seconds to wait for a worker."""
ALONE = Rank()
BAD_CEILING = 0.01
"""The part of a dataset that `skip` may leave out before it is an error after all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """This process's share of the images of one step.

    Shape: `images` (B, 3, S, S) uint8, `targets` (B,) int64, `indices` (B,) int64: which samples,
    plus N for each time that a sample has come before in this epoch. They stay on the CPU, where
    the augmentation draws: to ask a GPU for them would be to wait for it.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    start: int
    """Position of the first image in the batch of all processes."""
    total: int
    """Images in the batch of all processes."""

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device; from pinned memory this does not wait for the copy."""
        images, targets = (t.to(device, non_blocking=True) for t in (self.images, self.targets))
        return replace(self, images=images, targets=targets)


@dataclass(frozen=True)
class Share:
    """Which samples make up one process's part of one batch, before they are read."""

    indices: Tensor
    start: int
    total: int


class Feed:
    """Reads samples, prepares them, and brings them to the device.

    Args:
        samples: The images.
        prepare: Makes one image the model's size. If it has an attribute `varies` that is false, it
            does not depend on the epoch, and its results may be cached.
        num_workers: Processes that prepare images; `auto` is none for cached images, else what the
            machine has.
        cache: Where decoded images are kept.
        device: Where batches go.
        on_bad_image: Whether an unreadable image ends the run, or is left out of its batch.
        hint: What a user can do about an unreadable image, in place of the decoder's advice.
        timeout: Seconds to wait for a worker.
        show: Whether to show progress.
    """

    def __init__(
        self,
        samples: Samples,
        prepare: Prepare,
        *,
        num_workers: NumWorkers,
        cache: CacheMode,
        device: torch.device | str,
        show: bool,
        on_bad_image: OnBadImage,
        hint: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.samples, self.prepare = samples, prepare
        self.device = torch.device(device)
        self.cache, self.show = cache, show
        self.on_bad_image, self.hint, self.timeout = on_bad_image, hint, timeout
        self.varies = bool(getattr(prepare, "varies", True))
        self._num_workers = num_workers
        self._bad: set[int] = set()
        self._workers: Workers | None = None

    def batches(self, shares: Iterable[Share], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each share, on the device."""
        if not len(self.samples):  # a process may have no image to evaluate
            return
        if self.cached is None:
            batches = self._from_samples(shares, epoch)
        else:
            batches = self._from_cache(self.cached, shares)
        yield from batches if self._on_device else _ahead(batches, self.device)

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    @cached_property
    def num_workers(self) -> int:
        """Processes that prepare images."""
        if self._num_workers != "auto":
            return self._num_workers
        if isinstance(self._stored, ArraySamples):
            return 0
        cores = cpu_count()
        # On a CPU the model needs the cores itself.
        return min(16, max(1, cores - 1)) if self.device.type == "cuda" else min(4, cores // 4)

    @property
    def images_ahead(self) -> int:
        """Images that the workers may have prepared before they are asked for."""
        return PREFETCH * PIECE * self.num_workers if self.cached is None else 0

    def describe(self) -> str:
        """Say where the images come from and who prepares them."""
        count, stored = f"{len(self.samples):,} images", self._stored
        if self.cached is not None:
            text = f"{count} prepared beforehand, {_place(self.cached.images)}"
        elif isinstance(stored, ArraySamples):
            text = f"{count} decoded beforehand, {_place(stored.array)}"
        else:
            text = f"{count} decoded as they are needed"
        if self.num_workers and self.cached is None:
            text += f", by {self.num_workers} worker{'s' * (self.num_workers > 1)}"
        return text

    @cached_property
    def cached(self) -> Cached | None:
        """All prepared images, if they can be and are kept."""
        if self.varies:
            return None
        num_bytes = len(self.samples) * self._shape.numel()
        place = choose(self.cache, num_bytes, self.device)
        if place == "none":
            return None
        cached = fill(
            len(self.samples),
            lambda i: prepared(self.samples, self.prepare, i, 0),
            self._shape,
            threads=cpu_count(),
            show=self.show,
        )
        for index, error in cached.errors.items():
            self._report(index, error)
        return cached.to(self.device) if place == "device" else cached

    @cached_property
    def _stored(self) -> Samples:
        """The samples, decoded beforehand if that is possible and wanted."""
        if not self.varies:  # then prepared images are cached, or none
            return self.samples
        return as_array(self.samples, self.cache, show=self.show)

    @cached_property
    def _shape(self) -> torch.Size:
        """The shape of a prepared image: that of the first one that can be read."""
        for index in range(len(self.samples)):
            try:
                return prepared(self._stored, self.prepare, index, 0).shape
            except DataError as error:
                self._report(index, error)
        raise AssertionError("a dataset of bad images alone is refused long before")

    def _from_cache(self, cached: Cached, shares: Iterable[Share]) -> Iterator[Batch]:
        """Yield batches where the cache is: in memory, or on the device."""
        place = cached.images.device
        targets = self.samples.targets.to(place)
        bad = torch.tensor(list(cached.errors), dtype=torch.int64)
        for share in shares:
            indices = share.indices
            if len(bad):
                indices = indices[~torch.isin(indices % len(self.samples), bad)]
            chosen = (indices % len(self.samples)).to(place, non_blocking=True)
            images = self._empty(len(chosen), place)
            torch.index_select(cached.images, 0, chosen, out=images)
            yield Batch(images, targets[chosen], indices, share.start, share.total)

    def _from_samples(self, shares: Iterable[Share], epoch: int) -> Iterator[Batch]:
        """Yield batches in memory."""
        asked, due = tee(shares)  # workers are ahead of the batches that are due
        jobs = (
            Job(indices.tolist(), epoch)
            for share in asked
            for indices in _split(share.indices, PIECE)
        )
        ring, pieces = self._prepared(jobs)
        for share in due:
            images = self._empty(len(share.indices), torch.device("cpu"))
            kept: list[int] = []
            for piece in islice(pieces, math.ceil(len(images) / PIECE)):
                for index, error in piece.errors:
                    self._report(index, error)
                count = len(piece.indices)
                images[len(kept) : len(kept) + count] = ring[piece.slot, :count]
                kept += piece.indices
            indices = torch.tensor(kept, dtype=torch.int64)
            targets = self.samples.targets[indices % len(self.samples)]
            yield Batch(images[: len(kept)], targets, indices, share.start, share.total)

    def _empty(self, count: int, place: torch.device) -> Tensor:
        """Return room for images; in memory, from where a GPU can copy it by itself."""
        pinned = place.type == "cpu" and self.device.type == "cuda"
        shape = (count, *self._shape)
        return torch.empty(shape, dtype=torch.uint8, device=place, pin_memory=pinned)

    @property
    def _on_device(self) -> bool:
        return self.cached is not None and self.cached.images.device.type == self.device.type

    def _prepared(self, jobs: Iterator[Job]) -> tuple[Tensor, Iterator[Piece]]:
        """Start on jobs, here or in workers; return where the images will be, and the pieces."""
        if not self.num_workers:
            ring = torch.empty((1, PIECE, *self._shape), dtype=torch.uint8)
            return ring, map(Preparer(self._stored, self.prepare, ring).__getitem__, jobs)
        if self._workers is None:
            self._workers = Workers(
                self._stored, self.prepare, self._shape, self.num_workers, self.timeout
            )
        return self._workers.ring, self._workers.run(jobs)

    def _report(self, index: int, error: VtrainError) -> None:
        """Stop at a bad image, or note that it is left out.

        Raises:
            DataError: The policy is `error`, or too many images are bad.
        """
        if self.on_bad_image == "error":
            if self.hint is None or hasattr(error, "__notes__"):  # a failure of another kind
                raise error
            raise DataError(error.what, error.where, self.hint) from error
        index %= len(self.samples)
        if index in self._bad:
            return
        self._bad.add(index)
        logger.log(logging.WARNING if len(self._bad) <= 10 else logging.INFO, "left out: %s", error)
        if len(self._bad) > math.ceil(BAD_CEILING * len(self.samples)):
            raise DataError(
                f"{len(self._bad)} of {len(self.samples)} images cannot be read, more than "
                f"{BAD_CEILING:.0%}; the last one is {error.what}",
                error.where,
                "run `vtrain check CONFIG --data` for the list",
            )


class TrainLoader:
    """The training batches of one process.

    Args:
        samples: The images.
        prepare: See `Feed`.
        batch_size: Images per step, over all processes.
        seed: Decides the order, together with the epoch.
        rank: This process among all.
        device: Where batches go.
        timeout: Seconds to wait for a worker.
        repeats: Views of each image in a batch (repeated augmentation); an epoch has so many fewer
            images.
        balanced: Whether every class comes equally often, however rare it is.
        on_bad_image: Whether an image that cannot be read ends the training, or is left out of its
            batch.
        num_workers: Processes that decode images; `auto` is 0 for cached images, else what the
            machine has.
        cache: Where decoded images are kept: nowhere, in memory, or on the training device; `auto`
            takes the fastest that has room.

    Raises:
        ValueError: Both `repeats` and `balanced` are asked for.
    """

    def __init__(
        self,
        samples: Samples,
        prepare: Prepare,
        batch_size: int,
        seed: int,
        rank: Rank = ALONE,
        device: torch.device | str = "cpu",
        timeout: float = TIMEOUT,
        *,
        repeats: PositiveInt = 1,
        balanced: bool = False,
        on_bad_image: OnBadImage = "error",
        num_workers: NumWorkers = "auto",
        cache: CacheMode = "auto",
    ) -> None:
        if balanced and repeats > 1:
            raise ValueError(f"balanced and repeats ({repeats}) exclude each other")
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.repeats, self.balanced = rank, repeats, balanced
        self.feed = Feed(
            samples,
            prepare,
            num_workers=num_workers,
            cache=cache,
            device=device,
            show=rank.is_main,
            on_bad_image=on_bad_image,
            hint=BAD_HINT,
            timeout=timeout,
        )
        self._described = False

    def __len__(self) -> int:
        """Steps per epoch; the last one may have fewer images."""
        return math.ceil(len(self.samples) / self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, without the first `start`."""
        if self.feed.show and not self._described:
            self._described = True
            logger.info("input   %s", self.describe())
        return self.feed.batches(self._shares(epoch, start), epoch)

    def take(self, indices: Tensor) -> Batch:
        """Return some images as the first epoch would see them. Shape: `indices` (B,) int64."""
        (batch,) = self.feed.batches([Share(indices, 0, len(indices))], epoch=0)
        return batch

    @property
    def images_ahead(self) -> int:
        """Images that the workers may have decoded before they are asked for."""
        return self.feed.images_ahead

    def describe(self) -> str:
        """Say where the images come from and who decodes them."""
        return self.feed.describe()

    def close(self) -> None:
        self.feed.close()

    def order(self, epoch: int) -> Tensor:
        """Return the samples of an epoch, over all processes. Shape: (N,) int64."""
        if self.balanced:
            return balanced_order(self.samples.targets, self.seed, epoch)
        order = rng.permutation(len(self.samples), self.seed, epoch)
        return order if self.repeats == 1 else repeated(order, self.repeats, self.batch_size)

    def _shares(self, epoch: int, start: int) -> Iterator[Share]:
        for batch in _split(self.order(epoch), self.batch_size)[start:]:
            first, last = share_of(len(batch), self.rank.rank, self.rank.world_size)
            yield Share(batch[first:last], first, len(batch))


class EvalLoader:
    """Every image once, in order: sample i belongs to process i modulo their number.

    Args:
        samples: The images.
        preprocess: Makes one image the model's size.
        batch_size: Images per batch of this process.
        rank: This process among all.
        device: Where batches go.
        num_workers: See `TrainLoader`, as for `cache`.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Callable[[Image.Image], Tensor],
        batch_size: int,
        rank: Rank = ALONE,
        device: torch.device | str = "cpu",
        *,
        num_workers: NumWorkers,
        cache: CacheMode,
    ) -> None:
        self.own = torch.arange(len(samples))[rank.rank :: rank.world_size]
        self.batch_size = batch_size
        self.feed = Feed(
            samples if rank.world_size == 1 else subset(samples, self.own),
            _Fixed(preprocess),
            num_workers=num_workers,
            cache=cache,
            device=device,
            show=rank.is_main,
            on_bad_image="error",
        )

    def __len__(self) -> int:
        """Batches of this process."""
        return math.ceil(len(self.own) / self.batch_size)

    def batches(self) -> Iterator[Batch]:
        """Yield this process's images."""
        local = torch.arange(len(self.own))
        shares = (Share(part, int(part[0]), len(part)) for part in _split(local, self.batch_size))
        for batch in self.feed.batches(shares, epoch=0):
            yield replace(batch, indices=self.own[batch.indices])

    def close(self) -> None:
        self.feed.close()


@dataclass(frozen=True)
class _Fixed:
    """Preprocessing in the shape of `Prepare`: the same in every epoch."""

    preprocess: Callable[[Image.Image], Tensor]
    varies = False

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return self.preprocess(image)


def _place(images: Tensor) -> str:
    where = "in memory" if images.device.type == "cpu" else f"on {images.device}"
    return f"{images.nbytes / 2**20:,.1f} MiB {where}"


def share_of(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the first position of a process's share of a batch, and the one after its last.

    Shares are contiguous and, but for the last image of an odd batch, of even length: images at
    positions 2i and 2i + 1 are partners in mixing and must not be separated.
    """
    pairs = (size + 1) // 2
    first, last = (2 * (r * pairs // world_size) for r in (rank, rank + 1))
    return first, min(last, size)


@cache
def smallest_share(size: int, world_size: int) -> int:
    """Return how many images of a batch the process with the fewest gets."""
    shares = (share_of(size, rank, world_size) for rank in range(world_size))
    return min(last - first for first, last in shares)


def _split(indices: Tensor, size: int) -> list[Tensor]:
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch to the device while the one before it is computed."""
    if device.type != "cuda":
        yield from batches
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: deque[tuple[Batch, torch.cuda.Event]] = deque()
    for batch in batches:
        with torch.cuda.stream(copies):
            ready.append((batch.to(device), copies.record_event()))
        if len(ready) > 1:
            yield _received(*ready.popleft())
    if ready:
        yield _received(*ready.popleft())


def _received(batch: Batch, copied: torch.cuda.Event) -> Batch:
    compute = torch.cuda.current_stream(batch.images.device)
    compute.wait_event(copied)
    for tensor in (batch.images, batch.targets):
        tensor.record_stream(compute)  # its memory is not free for the next copy before it is used
    return batch
