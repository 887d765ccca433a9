"""Datasets that need no files: scikit-learn's digits, and made-up images."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import GREY, ArraySamples, SplitName, Triple
from vtrain.data.datasets.stratified import hold_out
from vtrain.registry import SOURCES


@SOURCES.register("digits")
class Digits:
    """1,797 scans of handwritten digits, 8 x 8 pixels, that ship inside scikit-learn.

    One image in five, drawn by class with a fixed seed, is for validation. Reference: Alpaydin and
    Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """

    classes = tuple("0123456789")
    mean: Triple = (0.3053,) * 3  # of the 1,797 images: x.mean() / 16
    std: Triple = (0.3760,) * 3
    notes = (GREY,)
    splits: tuple[SplitName, ...] = ("train", "val")

    def split(self, name: SplitName) -> ArraySamples:
        from sklearn.datasets import load_digits

        digits = load_digits()
        grey = torch.from_numpy(digits.images)  # (N, 8, 8), 0 to 16
        array = (grey * (255 / 16)).round().to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
        targets = torch.from_numpy(digits.target).long()
        held_out = hold_out(targets, 0.2)
        chosen = ~held_out if name == "train" else held_out
        return ArraySamples(array[chosen].contiguous(), targets[chosen], f"digits {name}")


@SOURCES.register("fake")
class Fake:
    """Made-up images for trials and tests: each class has its own pattern, under noise.

    Args:
        num_classes: Number of classes.
        num_images: Training images; there are a quarter as many others for validation.
        size: Pixels per side.
    """

    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.25, 0.25, 0.25)
    notes: tuple[str, ...] = ()
    splits: tuple[SplitName, ...] = ("train", "val")

    def __init__(
        self,
        *,
        num_classes: PositiveInt = 10,
        num_images: PositiveInt = 1000,
        size: PositiveInt = 32,
    ) -> None:
        self.num_images, self.size = num_images, size
        self.classes = tuple(f"class_{i}" for i in range(num_classes))

    def split(self, name: SplitName) -> ArraySamples:
        """Return `num_images` training images, or a quarter as many others for validation."""
        count = self.num_images if name == "train" else -(-self.num_images // 4)
        draw = rng.generator(0, name != "train")  # other noise than training's
        targets = torch.arange(count) % len(self.classes)
        noise = torch.randint(0, 128, (count, 3, self.size, self.size), generator=draw)
        array = (noise + 128 * self._patterns()[targets]).to(torch.uint8)
        return ArraySamples(array, targets, f"fake {name}")

    def _patterns(self) -> Tensor:
        """One coarse pattern of 0 and 1 for each class. Shape: (K, 3, size, size)."""
        # Four cells a side, enlarged to `size` pixels: coarse enough to survive any crop.
        coarse = torch.randint(0, 2, (len(self.classes), 3, 4, 4), generator=rng.generator(1))
        cells = torch.arange(self.size) * 4 // self.size
        return coarse[:, :, cells][..., cells]
