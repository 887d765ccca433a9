"""What an image file has beyond what is used of it: further pages or frames, further channels."""

import io
from enum import Flag, auto

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from vtrain.files.image_kinds import TIFF_STARTS
from vtrain.files.lazy_image import Bands

PAGED = "vtrain:paged"
"""The key of `Image.info` that says so of a decoded image."""
SMALLER_OR_MASK = 0b101
"""NewSubfileType (tag 254): a page that shows the first one on a smaller scale, or masks it."""
MOST_PAGES = 100
"""Pages that are looked at: a pyramid has ten."""


class Surplus(Flag):
    """What is left unused of an image."""

    NONE = 0
    PAGES = auto()
    CHANNELS = auto()


def surplus_of(image: Image.Image, channels: int) -> Surplus:
    """Return what a decoded image has beyond so many channels of one picture."""
    pages = Surplus.PAGES if PAGED in image.info else Surplus.NONE
    more = isinstance(image, Bands) and _has_more_bands(image, channels)
    return pages | (Surplus.CHANNELS if more else Surplus.NONE)


def _has_more_bands(image: Bands, channels: int) -> bool:
    if image.picture is None:
        return image.count > channels
    # Of two bands the picture shows one, as grey; of others it shows three.
    return image.count not in {1, 3, channels}


def marked(picture: Image.Image, opened: Image.Image | None, data: bytes) -> Image.Image:
    """Note of a decoded image whether its file has more pages or frames than this one."""
    if has_more_pages(opened, data):
        picture.info[PAGED] = True
    return picture


def has_more_pages(image: Image.Image | None, data: bytes) -> bool:
    """Return whether a file has other pictures than the first; False of one that is damaged.

    A JPEG has one: a telephone's has a map of its brightness behind it. Of a TIFF, smaller versions
    of the first page and masks for it are no other pictures.

    Args:
        image: As Pillow has opened it; None if it cannot.
        data: The file.
    """
    try:
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            return False
        if data[:4] in TIFF_STARTS:
            return _has_other_page(data)
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of every kind, as in `decode_image`, which says what is wrong
        return False


def _has_other_page(data: bytes) -> bool:
    """Return whether a TIFF has a page behind the first that shows something else."""
    big = data[2:3] == b"+" or data[3:4] == b"+"  # BigTIFF, whose header is longer
    file, seen = io.BytesIO(data), set[int]()
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
    # Each page says where the next one is; a damaged file may lead in a circle.
    while directory.next and directory.next not in seen and len(seen) < MOST_PAGES:
        seen.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        # 256: a page has a width, unless the file ends before it is said.
        is_page = 256 in directory and not directory.get(254, 0) & SMALLER_OR_MASK
        if len(seen) > 1 and is_page:
            return True
    return False
