"""Where the pixels of an evaluated image go: resize, crop and padding, by Pillow alone.

Nothing here needs torch: an exported model is asked without it.
"""

import math
from typing import Literal

from PIL import Image

from vtrain.files.large_jpeg import FACTORS, Box, LargeJpeg, Size
from vtrain.files.lazy_image import DeepGrey

Resize = Literal["crop", "squash", "letterbox"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Triple = tuple[float, float, float]
ValueRange = Literal["auto"] | tuple[float, float]
"""What is black and what is white in a grey image of more than 8 bits."""
MAX_SCALED = 64_000_000
"""Pixels to which an image is scaled before its centre is cut out: a strip would fill gigabytes."""


def fit_image(
    image: Image.Image,
    image_size: int,
    resize: Resize,
    crop_fraction: float,
    interpolation: Interpolation,
    mean: Triple,
    reducing_gap: float | None = None,
    value_range: ValueRange = "auto",
) -> Image.Image:
    """Bring an RGB image to `image_size` pixels per side; `Preprocess` explains the arguments.

    An image that already has that size is not changed.
    """
    S, image = image_size, in_range(image, value_range)
    if image.size == (S, S):  # small datasets have the model's size as they are
        return image
    filter_ = Image.Resampling[interpolation.upper()]
    (width, height), left, top = placed(image.size, S, resize, crop_fraction)
    image, whole = reduced(image, image.size, (width, height), interpolation, reducing_gap)
    if resize == "squash":
        if S * image.height > MAX_SCALED:  # Pillow scales the width first, for every row
            image = image.resize((image.width, S), filter_, (0, whole[1], image.width, whole[3]))
            whole = (whole[0], 0, whole[2], S)
        return image.resize((S, S), filter_, whole)
    if resize == "crop" and width * height > MAX_SCALED:  # too large to have been reduced
        return _scaled_part(image, (width, height), (left, top), S, filter_)
    image = image.resize((width, height), filter_, whole)
    if resize == "crop":
        return image.crop((left, top, left + S, top + S))
    red, green, blue = (round(255 * m) for m in mean)
    canvas = Image.new("RGB", (S, S), (red, green, blue))
    canvas.paste(image, (-left, -top))
    return canvas


def in_range(image: Image.Image, value_range: ValueRange) -> Image.Image:
    """Return a deep grey image with its values from black to white; of others `image` itself."""
    if isinstance(image, DeepGrey) and not isinstance(value_range, str):
        return image.ranged(*value_range)
    return image


def reduced(
    image: Image.Image,
    part: Size,
    target: Size,
    interpolation: Interpolation,
    reducing_gap: float | None,
) -> tuple[Image.Image, Box]:
    """Return an image with no more pixels than scaling needs, and where the whole lies in it.

    Args:
        image: Only a large JPEG has fewer pixels to offer.
        part: Of the image, in pixels: what is scaled, and
        target: to which size.
        interpolation: The filter; of the nearest pixel nothing can be left out.
        reducing_gap: How many times the target's pixels there must still be along each side; None
            leaves all.
    """
    if isinstance(image, LargeJpeg) and reducing_gap is not None and interpolation != "nearest":
        gaps = [have / (want * reducing_gap) for have, want in zip(part, target, strict=True)]
        for factor in FACTORS:
            if factor <= min(gaps):
                return image.reduced(factor)
    return image, (0, 0, *image.size)


def placed(
    size: tuple[int, int], image_size: int, resize: Resize, crop_fraction: float
) -> tuple[tuple[int, int], int, int]:
    """Return the size that an image is scaled to, and where the square's corner is on it."""
    S = image_size
    if resize == "squash":
        return (S, S), 0, 0
    # The floor is the convention of published evaluation numbers: 224 / 0.875 = 256.
    target = int(S / crop_fraction) if resize == "crop" else S
    # Which side becomes `target`: the shorter one is cropped to S, the longer one fits into S.
    reference = min(size) if resize == "crop" else max(size)
    width, height = (max(1, target * side // reference) for side in size)
    return (width, height), round((width - S) / 2), round((height - S) / 2)


def _scaled_part(
    image: Image.Image,
    size: tuple[int, int],
    corner: tuple[int, int],
    image_size: int,
    filter_: Image.Resampling,
) -> Image.Image:
    """Return the square at `corner` of the image scaled to `size`, without making the rest."""
    whole = image.size
    scale = [have / want for have, want in zip(whole, size, strict=True)]
    start = [at * s for at, s in zip(corner, scale, strict=True)]
    end = [(at + image_size) * s for at, s in zip(corner, scale, strict=True)]
    # More than a filter reaches: four pixels of the coarser of both sides. Pillow keeps a box as
    # 32-bit floats, which are exact enough only near 0: so what lies far away is cut off first.
    reach = [math.ceil(4 * max(s, 1)) for s in scale]
    low = [max(0, math.floor(a) - r) for a, r in zip(start, reach, strict=True)]
    high = [min(n, math.ceil(b) + r) for b, r, n in zip(end, reach, whole, strict=True)]
    part = image.crop((low[0], low[1], high[0], high[1]))
    box = [max(0.0, a - at) for a, at in zip(start, low, strict=True)]
    box += [min(b - at, n) for b, at, n in zip(end, low, part.size, strict=True)]
    left, top, right, bottom = box
    return part.resize((image_size, image_size), filter_, (left, top, right, bottom))
