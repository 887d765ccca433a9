"""Small pictures that stand in the page itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from PIL import Image

from vtrain.errors import VtrainError
from vtrain.report.figures import data_uri

SIDE = 160
SMALL = 64
"""Up to this side an image is stored as it is: JPEG would blur it and save little."""

ReadImage = Callable[[int], Image.Image]
"""Returns image `index` of those that the predictions are of."""


@dataclass(frozen=True)
class Maps:
    """What a model looked at, as data URIs by the number of the image.

    Attributes:
        method: How the maps were made.
        pictures: Those that could be.
        left_out: Whether there are fewer than images, as the model is large.
        missing: Why there are none at all.
    """

    method: str = ""
    pictures: Mapping[int, str] = field(default_factory=dict)
    left_out: bool = False
    missing: str = ""


def thumbnails(indices: Iterable[int], read: ReadImage) -> dict[int, str]:
    """Return data URIs of images; one that cannot be read any more is left out."""
    result: dict[int, str] = {}
    for index in indices:
        if index in result:
            continue
        try:
            result[index] = thumbnail(read(index))
        except VtrainError:  # moved or deleted since: the page says so in its place
            continue
    return result


def image_sizes(count: int, read: ReadImage, most: int = 100) -> list[tuple[int, int]]:
    """Return width and height of some of `count` images, evenly spaced; unreadable ones are not."""
    sizes = []
    for place in range(min(count, most)):
        try:
            sizes.append(read(place * count // min(count, most)).size)
        except VtrainError:
            continue
    # By area, so that the first, the middle and the last say how they vary.
    return sorted(sizes, key=lambda size: (size[0] * size[1], size))


def thumbnail(image: Image.Image) -> str:
    """Return an image, at most `SIDE` pixels wide and high, as a data URI."""
    image = image.convert("RGB")
    if max(image.size) <= SMALL:
        return data_uri(image, "PNG", optimize=True)
    image.thumbnail((SIDE, SIDE))
    return data_uri(image, "JPEG", quality=80)
