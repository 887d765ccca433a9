"""From samples to batches of bytes on the device, in an order that only (seed, epoch) decide.

The training order is a permutation of the samples, a global batch a slice of it, and a process's
share a piece of the batch. Neither the number of workers, nor the cache, nor where an epoch is
entered changes what is in a batch.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import Samples, subset
from vtrain.data.datasets.stratified import balanced_order
from vtrain.data.labels import has_several
from vtrain.data.loading.batches import Batch, Share, chunks, shares
from vtrain.data.loading.cache import CacheMode
from vtrain.data.loading.decoded import Decoded, NumWorkers
from vtrain.data.loading.feed import feed
from vtrain.data.loading.unreadable import OnBadImage, Unreadable
from vtrain.data.loading.worker import Transform
from vtrain.data.loading.workers import TIMEOUT
from vtrain.data.progress import Progress
from vtrain.data.unused import Unused
from vtrain.distributed import Rank
from vtrain.registry import CHANGEABLE_ON_RESUME, FREE_ON_RESUME, off

# What a user can do about a bad image.
BAD_HINT = "`vtrain check CONFIG --data` lists all; data.on_bad_image=skip leaves them out"
ALONE = Rank()

logger = logging.getLogger(__name__)


class TrainLoader:
    """The training batches of one process.

    Args:
        samples: The images.
        transform: Makes one image the model's size; it may depend on the epoch.
        batch_size: Images per step, over all processes.
        seed: Decides the order, together with the epoch.
        rank: This process among all.
        device: Where batches go.
        timeout: Seconds to wait for a worker.
        repeats: Views of each image in a batch (repeated augmentation); an epoch has so many fewer
            images.
        balanced: Whether every class comes equally often, however rare it is.
        on_bad_image: Whether an image that cannot be read ends the run, or is left out: of its
            batch, and of the figures on validation images.
        num_workers: Processes that decode images; `auto` is 0 for cached images, else what the
            machine has.
        cache: Where decoded images are kept: nowhere, in memory, or on the training device; `auto`
            takes the fastest that has room.

    Raises:
        ValueError: `balanced` is asked for beside `repeats`, or for several labels an image.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform,
        batch_size: int,
        seed: int,
        rank: Rank = ALONE,
        device: torch.device | str = "cpu",
        timeout: float = TIMEOUT,
        *,
        repeats: Annotated[PositiveInt, off(1)] = 1,
        balanced: Annotated[bool, off(False)] = False,
        on_bad_image: Annotated[OnBadImage, CHANGEABLE_ON_RESUME] = "error",
        num_workers: Annotated[NumWorkers, FREE_ON_RESUME] = "auto",
        cache: Annotated[CacheMode, FREE_ON_RESUME] = "auto",
    ) -> None:
        if balanced and repeats > 1:
            raise ValueError(f"balanced and repeats ({repeats}) exclude each other")
        if balanced and has_several(samples.targets):
            raise ValueError("balanced is for images of one class each; train.loss has pos_weight")
        self.samples, self.batch_size, self.seed, self.rank = samples, batch_size, seed, rank
        self.repeats, self.balanced = repeats, balanced
        self.decoded = Decoded(
            samples,
            transform,
            Unreadable(on_bad_image, len(samples), BAD_HINT),
            Unused("training ", is_part=rank.world_size > 1),
            torch.device(device),
            num_workers,
            cache,
            timeout=timeout,
        )
        self._described = False  # to describe is to fill the cache: not before the first epoch

    def __len__(self) -> int:
        """Steps per epoch; the last one may have fewer images."""
        return math.ceil(len(self.samples) / self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, without the first `start`."""
        if self.rank.is_main and not self._described:
            self._described = True
            logger.info("input   %s", self.describe())
            if self.decoded.is_kept:
                self.decoded.unused.say()
        own = shares(self.order(epoch), self.batch_size, self.rank, start)
        batches = feed(self.decoded, own, epoch)
        # Of a part of an epoch the number would be too small.
        is_told = self.rank.is_main and start == 0
        return self.decoded.unused.said_after(batches) if is_told else batches

    def take(self, indices: Tensor) -> Batch:
        """Return some images as the first epoch would see them. Shape: `indices` (B,) int64."""
        # One batch, not shared with other processes, and not a part of any epoch's order.
        (batch,) = feed(self.decoded, [Share(indices, 0, len(indices))], epoch=0)
        return batch

    @property
    def images_ahead(self) -> int:
        """Images that the workers may have decoded before they are asked for."""
        return self.decoded.images_ahead

    def describe(self) -> str:
        """Say where the images come from and who decodes them."""
        return self.decoded.describe()

    def close(self) -> None:
        self.decoded.close()

    def order(self, epoch: int) -> Tensor:
        """Return the samples of an epoch, over all processes. Shape: (N,) int64."""
        # Both know nothing of ranks and workers: every process computes the same order.
        if self.balanced:
            return balanced_order(self.samples.targets, self.seed, epoch)
        order = rng.permutation(len(self.samples), self.seed, epoch)
        return order if self.repeats == 1 else repeated(order, self.repeats, self.batch_size)


def repeated(order: Tensor, repeats: int, batch_size: int) -> Tensor:
    """Turn an order of N images into one of N views: `repeats` views of each of N / repeats images.

    View v of image i is the number i + v N. Augmentation hashes that number, so that every view
    looks different; the image to read is the number modulo N. All views of an image are in one
    global batch (where `repeats` divides `batch_size`), and as far apart there as possible, so
    that mixing does not pair an image with itself.

    Reference: Hoffer et al., "Augment your batch", arXiv:1901.09335; Touvron et al., DeiT,
    arXiv:2012.12877, section 6.

    Shape: (N,) int64 -> (N,) int64 in [0, N repeats).
    """
    images = len(order)
    chosen = order[: -(-images // repeats)]
    views = [
        block + view * images
        for block in chosen.split(max(1, batch_size // repeats))  # type: ignore[no-untyped-call]
        for view in range(repeats)
    ]
    return torch.cat(views)[:images]


class EvalLoader:
    """Every image once, in order: sample i belongs to process i modulo their number.

    `TrainLoader` explains the arguments, but `batch_size` counts the images of this process alone.
    `unused` is who knows already what is not used of the images, and says it.
    """

    def __init__(
        self,
        samples: Samples,
        preprocess: Callable[[Image.Image], Tensor],
        batch_size: int,
        rank: Rank = ALONE,
        device: torch.device | str = "cpu",
        unused: Unused | None = None,
        *,
        on_bad_image: OnBadImage,
        num_workers: NumWorkers,
        cache: CacheMode,
    ) -> None:
        self.own = torch.arange(len(samples))[rank.rank :: rank.world_size]
        self.batch_size = batch_size
        # Only this process's own images are decoded and cached.
        own = samples if rank.world_size == 1 else subset(samples, self.own)
        self.decoded = Decoded(
            own,
            _FixedTransform(preprocess),
            Unreadable(on_bad_image, len(own), BAD_HINT),
            unused or Unused(is_part=rank.world_size > 1),
            torch.device(device),
            num_workers,
            cache,
        )
        self._told = 0

    def __len__(self) -> int:
        """Batches of this process."""
        return math.ceil(len(self.own) / self.batch_size)

    def batches(self, doing: str = "evaluating") -> Iterator[Batch]:
        """Yield this process's images; a batch of which none can be read is left out.

        What is done with them is said if it takes long: `doing`.
        """
        local = chunks(torch.arange(len(self.own)), self.batch_size)
        parts = [Share(part, int(part[0]), len(part)) for part in local]
        with Progress(doing, "images", len(self.own)) as progress:
            for batch in feed(self.decoded, parts, epoch=0):
                # The samples here are this process's alone; others know them by their place in all.
                if len(batch.indices):
                    yield replace(batch, indices=self.own[batch.indices])
                progress.add(batch.total)
        self._tell(self.decoded.unreadable.skipped)
        self.decoded.unused.say()

    def _tell(self, skipped: int) -> None:
        """Say of how many images the figures are: of others they could not be compared."""
        if skipped > self._told:
            self._told, count = skipped, len(self.own)
            what = "evaluation is on %s of %s images: %s cannot be read"
            logger.warning(what, f"{count - skipped:,}", f"{count:,}", f"{skipped:,}")

    def close(self) -> None:
        self.decoded.close()


@dataclass(frozen=True)
class _FixedTransform:
    """A transform that is the same in every epoch, so that its results may be kept."""

    preprocess: Callable[[Image.Image], Tensor]
    varies = False

    def kept(self, image: Image.Image) -> Image.Image:
        return image

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return self.preprocess(image)
