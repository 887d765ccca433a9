"""Images that say which they are, and transforms that say when they were called."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import ArraySamples
from vtrain.data.loading.batches import Batch


def numbered(count: int) -> ArraySamples:
    """Images that say which they are: sample i is filled with the digits of i in base 200."""
    ids = torch.arange(count)
    colors = torch.stack([ids % 200, ids // 200 % 200, ids // 40_000], dim=1).to(torch.uint8)
    array = colors[:, :, None, None].expand(-1, -1, 4, 4).contiguous()
    return ArraySamples(array, ids * 7 % 10, "numbered")


def ids_in(images: Tensor) -> list[int]:
    colors = images[:, :, 0, 0].long()
    return (colors[:, 0] + 200 * colors[:, 1] + 40_000 * colors[:, 2]).tolist()


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Keeping:
    """A transform for which an image may be kept as it is."""

    def kept(self, image: Image.Image) -> Image.Image:
        return image


@dataclass
class Same(Keeping):
    """Transforms an image the same way in every epoch."""

    varies: bool = False

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return to_tensor(image)


@dataclass
class Marked(Keeping):
    """Writes the epoch and the index into the last row, as a random crop would differ by them."""

    varies: bool = True

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        pixels = to_tensor(image).clone()
        pixels[:, -1] = rng.hash_ints(index, epoch) % 251
        return pixels


@dataclass
class Calling(Keeping):
    """Transforms an image by a function."""

    function: Callable[[Image.Image, int, int], Tensor]
    varies: bool = True

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return self.function(image, index, epoch)


def bits(batches: Iterator[Batch]) -> list[bytes]:
    return [b.images.numpy().tobytes() + b.targets.numpy().tobytes() for b in batches]
