"""Large JPEGs, which are decoded at the scale that is needed of them.

A JPEG's transform gives the means of 2 x 2, 4 x 4 or 8 x 8 pixels in a fraction of the time that
all pixels take. It is the library's own scaling, which Pillow calls `draft`.
"""

from collections.abc import Callable
from typing import TypeAlias

from PIL import Image, JpegImagePlugin

from vtrain.files.colour_profile import PROFILE
from vtrain.files.lazy_image import LazyImage

Size: TypeAlias = tuple[int, int]
"""Width and height."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""
LARGE = 1_000_000
"""Pixels from which on a JPEG is large: of smaller ones there is little time to save."""
FACTORS = (8, 4, 2)
"""By how much the library scales sides down."""


class LargeJpeg(LazyImage):
    """A JPEG that is decoded when its pixels are asked for: in full, or by `reduced`.

    Args:
        size: Of the upright image.
        decode: Gives the upright RGB image with sides scaled down by a factor, and where the whole
            image lies in it. It raises a DataError if the file is damaged.
        profile: Of its colours, if it has one.
    """

    def __init__(
        self,
        size: Size,
        decode: Callable[[int], tuple[Image.Image, Box]],
        profile: bytes | None = None,
    ) -> None:
        super().__init__(size, lambda: decode(1)[0])
        self._decode = decode
        if profile is not None:
            self.info[PROFILE] = profile

    def reduced(self, factor: int) -> tuple[Image.Image, Box]:
        """Return the image with sides scaled down by 2, 4 or 8, and where the whole lies in it."""
        return self._decode(factor)


def halved(size: Size, least: int) -> Size:
    """Return what sides are if they are scaled down by 1 or 2."""
    return -(-size[0] // least), -(-size[1] // least)


def reduce(image: JpegImagePlugin.JpegImageFile, least: int, factor: int, turn: int) -> Box:
    """Have a JPEG decoded with sides scaled down, and say where the whole will lie once upright.

    Args:
        image: It is not decoded yet.
        least: What its sides are scaled down by in any case: 1 or 2.
        factor: What they are then scaled down by: a power of two.
        turn: The EXIF orientation.
    """
    factor = min(factor, FACTORS[0] // least)
    width, height = (side / factor for side in halved(image.size, least))
    if least * factor > 1:
        image.draft(None, (image.width // (least * factor), image.height // (least * factor)))
    # The last column and row hold pixels beyond the image's end, which may come first once upright.
    beyond = image.width - width, image.height - height
    if turn >= 5:
        width, height, beyond = height, width, beyond[::-1]
    left = beyond[0] if turn in {2, 3, 6, 7} else 0.0
    top = beyond[1] if turn in {3, 4, 7, 8} else 0.0
    return left, top, left + width, top + height
