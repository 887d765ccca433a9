"""Small datasets are decoded once and held as one uint8 tensor, in memory or on the device."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vtrain.data.datasets.samples import ArraySamples, Samples
from vtrain.data.loading.worker import Transform
from vtrain.data.normalise import to_bytes
from vtrain.data.progress import Progress
from vtrain.data.unused import Unused
from vtrain.device import naming_failures
from vtrain.errors import DataError, DeviceError
from vtrain.files.surplus import surplus_of
from vtrain.resources import cpu_count, free_memory

CacheMode: TypeAlias = Literal["auto", "none", "ram", "device"]
AUTO_SHARE = 0.25
"""`auto` takes at most this part of the free memory: the model needs the rest."""

CACHE_HINT = "use data.cache=none, or a smaller data.image_size"
GIB = 2**30
FILL_CHUNK = 256
"""Images that a thread decodes in one go: between two steps of the progress bar."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """The images of a split, decoded. Those that could not be read are zeros, named in `errors`.

    Shape: `images` (N, C, H, W) uint8.
    """

    images: Tensor
    errors: dict[int, DataError]

    def to(self, device: torch.device) -> "Cached":
        size = f"{self.images.nbytes / GIB:,.1f} GiB on {device}"
        with naming_failures(f"data.cache=device ({size})", CACHE_HINT):
            return replace(self, images=self.images.to(device))


def choose(
    mode: CacheMode, num_bytes: int, device: torch.device
) -> Literal["none", "ram", "device"]:
    """Decide where `num_bytes` of images go.

    Asked for `device` on a CPU, the images go to memory, which is the same thing there.

    Raises:
        DeviceError: They are asked for in memory, which has no room for them.
    """
    if mode == "device" and device.type == "cuda":
        return "device"
    if mode in {"ram", "device"}:
        # Asked before: the system would promise the memory, and end the program when it is used.
        if num_bytes > (free := free_memory()):
            what = (
                f"the cache of {num_bytes / GIB:,.1f} GiB does not fit into {free / GIB:,.1f} GiB"
            )
            raise DeviceError(f"{what} of free memory", f"data.cache={mode}", CACHE_HINT)
        return "ram"
    if mode == "none":
        return "none"
    # The device first: then no step waits for a copy.
    if device.type == "cuda" and num_bytes <= AUTO_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "ram" if num_bytes <= AUTO_SHARE * free_memory() else "none"


def fill(count: int, read: Callable[[int], Tensor], shape: torch.Size, *, threads: int) -> Cached:
    """Call `read` for each of `count` images, in threads, and gather the results.

    Decoding releases Python's lock, so threads are enough, and nothing has to be copied between
    processes. An image that `read` refuses becomes an entry of `errors`.

    Shape: `read` gives `shape` -> (count, *shape) uint8.
    """
    size = f"{count * shape.numel() / GIB:,.1f} GiB for {count:,} images"
    with naming_failures(f"data.cache ({size})", CACHE_HINT):
        images = torch.zeros((count, *shape), dtype=torch.uint8)  # a bad image stays black
    errors: dict[int, DataError] = {}

    def work(start: int) -> int:
        # Threads write to rows of their own, so nothing is locked.
        chunk = range(start, min(start + FILL_CHUNK, count))
        for i in chunk:
            try:
                images[i] = read(i)
            except DataError as error:
                errors[i] = error
        return len(chunk)

    with Progress("decoding", "images", count) as progress, ThreadPoolExecutor(threads) as pool:
        for done in pool.map(work, range(0, count, FILL_CHUNK)):
            progress.add(done)
    return Cached(images, dict(sorted(errors.items())))


@dataclass(frozen=True)
class DecodedSamples(ArraySamples):
    """Samples that were decoded beforehand."""

    source: Samples = field(kw_only=True)

    def name(self, index: int) -> str:
        return self.source.name(index)


class MixedSizesError(Exception):
    """Images cannot be stacked: by their sizes, kind or number, or as one cannot be read."""


def as_array(samples: Samples, mode: CacheMode, transform: Transform, unused: Unused) -> Samples:
    """Return the images as `ArraySamples` if all can be read, have one size and fit in memory.

    They are as `transform` says that they may be kept for it; `unused` notes what is not kept.

    Otherwise return `samples` as they are.
    """
    if mode == "none" or isinstance(samples, ArraySamples):
        return samples
    try:
        stacked = _stack(samples, mode, transform, unused)
        return DecodedSamples(stacked, samples.targets, "", source=samples)
    except (MixedSizesError, DataError) as reason:
        if mode != "auto":
            logger.warning("data.cache=%s: the images are not cached, because %s", mode, reason)
        return samples


def _stack(samples: Samples, mode: CacheMode, transform: Transform, unused: Unused) -> Tensor:
    """Decode all images into one array. Shape: (N, C, H, W) uint8."""
    # Sixteen spread over all mostly show whether reading them all is worth it.
    probe = range(0, len(samples), max(1, len(samples) // 16))
    shapes = {pixels(samples, index, transform, unused).shape for index in probe}
    shape = next(iter(shapes))

    def read(index: int) -> Tensor:
        try:
            image = pixels(samples, index, transform, unused)
        except DataError as error:  # as a DataError, `fill` would note it and go on
            raise MixedSizesError(str(error)) from error
        if image.shape != shape:
            raise MixedSizesError(f"their sizes differ ({samples.name(index)})")
        return image

    if len(shapes) > 1:
        raise MixedSizesError("their sizes differ")
    if choose(mode, len(samples) * shape.numel(), torch.device("cpu")) == "none":
        raise MixedSizesError("they are too many for the memory")
    return fill(len(samples), read, shape, threads=cpu_count()).images


def pixels(samples: Samples, index: int, transform: Transform, unused: Unused) -> Tensor:
    """Return the bytes that are kept of one image. Shape: (C, H, W) uint8.

    Raises:
        MixedSizesError: What is used of it depends on its crop.
    """
    image = samples.image(index)
    kept = transform.kept(image)
    if kept is None:
        raise MixedSizesError(f"a large JPEG is decoded as it is needed ({samples.name(index)})")
    result = to_bytes(kept)
    unused.note(index, surplus_of(image, len(result)))
    return result
