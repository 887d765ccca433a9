"""Mean and standard deviation of the pixels of a split, channel by channel."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Sums over the pixels of an image, exact: of the values and of their squares."""

    pixels: int
    """How many were added up."""
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, image: Tensor) -> "Moments":
        """Add up an image. Shape: (C, H, W) uint8."""
        values = image.flatten(1).to(torch.int64)
        sums, squares = values.sum(1).tolist(), values.square().sum(1).tolist()
        return cls(values.shape[1], tuple(sums), tuple(squares))

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums over both, which have as many channels."""
        return Moments(
            self.pixels + other.pixels,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )


@dataclass(frozen=True)
class PixelStatistics:
    """What images can be normalised by: of each channel, of values in [0, 1]."""

    size: int
    """Pixels per side that the images had."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, total: Moments, size: int) -> "PixelStatistics":
        """Return those of the images of which these are the sums."""
        pixels = total.pixels
        # In whole numbers up to the division: the difference of two large sums would lose digits.
        variances = [pixels * q - s * s for s, q in zip(total.sums, total.squares, strict=True)]
        return cls(
            size,
            tuple(s / pixels / 255 for s in total.sums),
            tuple(v**0.5 / pixels / 255 for v in variances),
        )

    def lines(self) -> Iterator[str]:
        """Yield what a config says to normalise by them."""
        side = self.size
        yield f"  pixels: measured at {side} x {side}; to normalise by them, write in section data:"
        yield f"    mean: [{', '.join(f'{value:.4f}' for value in self.mean)}]"
        # What never varies cannot be scaled: a deviation has to be positive.
        yield f"    std: [{', '.join(f'{max(value, 1e-4):.4f}' for value in self.std)}]"
        still = [str(number) for number, value in enumerate(self.std) if not value]
        if still:
            yield f"    channel {', '.join(still)} (from 0) has the same value everywhere"
