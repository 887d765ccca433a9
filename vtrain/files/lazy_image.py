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
        grey = levels(self.samples, low, high)
        return Image.fromarray(255 - grey if self.white_is_zero else grey).convert("RGB")


class Planes(LazyImage):
    """Bands of 8 bits, which are scaled and cut alike; it is seen as `visible` shows it.

    Args:
        planes: The bands, in Pillow's mode L, all of one size.
    """

    def __init__(self, planes: tuple[Image.Image, ...]) -> None:
        super().__init__(planes[0].size, lambda: visible(planes))
        self.planes = planes

    def resize(
        self,
        size: Any,
        resample: int | None = None,
        box: tuple[float, float, float, float] | None = None,
        reducing_gap: float | None = None,
    ) -> "Planes":
        """Scale each band."""
        return Planes(tuple(p.resize(size, resample, box, reducing_gap) for p in self.planes))

    def crop(self, box: tuple[float, float, float, float] | None = None) -> "Planes":
        """Cut the same part out of each band."""
        return Planes(tuple(plane.crop(box) for plane in self.planes))


class Bands(LazyImage):
    """An image of other bands than red, green and blue: it is seen as RGB, and has the others.

    Args:
        size: Width and height.
        count: How many bands there are.
        read: Gives the samples, of any type, the value of black and that of white.
            Shape: (H, W, count).
        picture: The same as red, green and blue, where the file has these; None of a stack of
            bands, of which no three are said to be colours.
        where: The file, for messages.
    """

    def __init__(
        self,
        size: tuple[int, int],
        count: int,
        read: Callable[[], tuple[NDArray[Any], float, float]],
        picture: Image.Image | None = None,
        where: str | None = None,
    ) -> None:
        super().__init__(size, lambda: picture or visible(planes_of(self.ranged())))
        self.count, self.read, self.picture, self.where = count, read, picture, where

    def ranged(self, low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
        """Return all bands as bytes, with these values as black and white, or as the file says.

        Bytes stay as they are. Shape: (H, W, count).

        Raises:
            DataError: The bands cannot be read.
        """
        samples, first, last = self.read()
        if samples.dtype == np.uint8:
            return levels(samples, first, last)
        return levels(samples, first if low is None else low, last if high is None else high)


def levels(samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return samples as bytes, `low` as 0 and `high` as 255; beyond them it stays so."""
    if samples.dtype == np.uint8 and (low, high) == (0, 255):
        return samples
    if samples.ndim == 3:  # a band at a time: as floats all of them would take gigabytes
        whole = np.empty(samples.shape, np.uint8)
        for band in range(samples.shape[2]):
            whole[..., band] = levels(samples[..., band], low, high)
        return whole
    # A float64 copy of 64 million pixels would be half a gigabyte.
    scaled = samples.astype(np.float32)
    scaled -= low
    scaled *= 255 / (high - low)
    return np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def planes_of(samples: NDArray[np.uint8]) -> tuple[Image.Image, ...]:
    """Return each band as an image. Shape: (H, W, C)."""
    bands = range(samples.shape[2])
    return tuple(Image.fromarray(np.ascontiguousarray(samples[..., i])) for i in bands)


def image_of(samples: NDArray[np.uint8]) -> Image.Image:
    """Return bytes as an image: grey (L), RGB, or `Planes` of another number of bands.

    Shape: (H, W, C).
    """
    if samples.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(samples))
    planes = planes_of(samples)
    return planes[0] if len(planes) == 1 else Planes(planes)


def samples_of(image: Image.Image) -> NDArray[np.uint8]:
    """Undo `image_of`. Shape: (H, W, C)."""
    if isinstance(image, Planes):
        return np.stack([np.asarray(plane) for plane in image.planes], axis=2)
    assert image.mode in {"L", "RGB"}, f"images are grey or RGB here, not {image.mode}"
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def visible(planes: tuple[Image.Image, ...]) -> Image.Image:
    """Return bands as people see them: the first three as RGB, or of fewer the first as grey."""
    if len(planes) < 3:
        return planes[0].convert("RGB")
    return Image.merge("RGB", planes[:3])
