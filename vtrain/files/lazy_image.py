"""Images whose pixels depend on what they are needed for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class LazyImage(Image.Image):
    """An RGB image whose pixels are made when they are first asked for, by `make`.

    Whatever Pillow does with an image it does with this one.
    """

    def __init__(self, size: tuple[int, int], make: Callable[[], Image.Image]) -> None:
        super().__init__()
        self._size, self._mode, self._make = size, "RGB", make

    def load(self) -> Any:
        """Make the pixels, unless that is done; every method of Pillow's calls this."""
        if self._im is None:
            self.im = self._make().im
        return super().load()


class DeepGrey(LazyImage):
    """A grey image of more than 8 bits: its pixels are what its file says, or are `ranged`.

    Args:
        samples: As they were measured. Shape: (H, W), of any type.
        low: The value of black,
        high: and that of white, by the file or by the type.
        white_is_zero: Whether the two change places.
    """

    def __init__(
        self, samples: NDArray[Any], low: float, high: float, white_is_zero: bool = False
    ) -> None:
        super().__init__((samples.shape[1], samples.shape[0]), lambda: self.ranged(low, high))
        self.samples, self.white_is_zero = samples, white_is_zero

    def ranged(self, low: float, high: float) -> Image.Image:
        """Return the image with these values as black and white; beyond them it stays so."""
        # A float64 copy of 64 million pixels would be half a gigabyte.
        scaled = self.samples.astype(np.float32)
        scaled -= low
        scaled *= 255 / (high - low)
        grey = np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
        return Image.fromarray(255 - grey if self.white_is_zero else grey).convert("RGB")
