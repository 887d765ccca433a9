"""Where the pixels of an evaluated image go: resize, crop and padding, by Pillow alone.

Nothing here needs torch: an exported model is asked without it.
"""

import math
from typing import Literal

from PIL import Image

from vtrain.errors import DataError
from vtrain.files.colour_profile import to_srgb
from vtrain.files.large_jpeg import FACTORS, Box, LargeJpeg, Size
from vtrain.files.lazy_image import Bands, DeepGrey, Planes, image_of

Resize = Literal["crop", "squash", "letterbox"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
PerChannel = tuple[float, ...]
"""A number for each channel."""
ValueRange = Literal["auto"] | tuple[float, float]
"""What is black and what is white in an image of more than 8 bits."""
MAX_SCALED = 64_000_000
"""Pixels to which an image is scaled before its centre is cut out: a strip would fill gigabytes."""


def fit_image(
    image: Image.Image,
    image_size: int,
    resize: Resize,
    crop_fraction: float,
    interpolation: Interpolation,
    mean: PerChannel,
    reducing_gap: float | None = None,
    value_range: ValueRange = "auto",
    channels: int = 3,
    icc: bool = False,
) -> Image.Image:
    """Bring an image to `image_size` pixels per side; `Preprocess` explains the arguments.

    An image that already has that size is not changed.

    Raises:
        DataError: It has not so many channels.
    """
    S, image = image_size, in_channels(image, channels, value_range, icc)
    if image.size == (S, S):  # small datasets have the model's size as they are
        return in_colours(image, channels, icc)
    filter_ = Image.Resampling[interpolation.upper()]
    (width, height), left, top = placed(image.size, S, resize, crop_fraction)
    image, whole = reduced(image, image.size, (width, height), interpolation, reducing_gap)
    image = in_colours(image, channels, icc)
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
    return _on_canvas(image, S, (-left, -top), [round(255 * m) for m in mean])


def _on_canvas(image: Image.Image, size: int, at: tuple[int, int], fill: list[int]) -> Image.Image:
    """Put an image on a square of a colour."""
    if isinstance(image, Planes):
        planes = zip(image.planes, fill, strict=True)
        return Planes(tuple(_on_canvas(plane, size, at, [one]) for plane, one in planes))
    canvas = Image.new(image.mode, (size, size), tuple(fill) if image.mode == "RGB" else fill[0])
    canvas.paste(image, at)
    return canvas


def in_channels(
    image: Image.Image, channels: int, value_range: ValueRange, icc: bool
) -> Image.Image:
    """Return a decoded image with the channels that are asked for, and deep values in their range.

    Grey is made of colours; all other channels are those of the file. A large JPEG stays as it is:
    `in_colours` is for what is decoded of it.

    Raises:
        DataError: The file has not so many.
    """
    low, high = (None, None) if isinstance(value_range, str) else value_range
    has, where = 3, None
    if isinstance(image, Bands):
        has, where = image.count, image.where
        if has == channels and (channels != 3 or image.picture is None):
            return image_of(image.ranged(low, high))
        if channels in (1, 3) and image.picture is not None:
            return in_colours(image.picture, channels, icc)
    elif isinstance(image, Planes):  # what this function gave, and was kept
        has = len(image.planes)
        if has == channels:
            return image
    elif channels in (1, 3):
        ranged = in_range(image, value_range)
        return ranged if isinstance(ranged, LargeJpeg) else in_colours(ranged, channels, icc)
    hint = f"such images need data.channels={has}"
    raise DataError(
        f"an image of {has} channels, where {channels} are asked for (data.channels)", where, hint
    )


def in_colours(image: Image.Image, channels: int, icc: bool) -> Image.Image:
    """Return colours in sRGB, if `icc` asks for it, or as grey, by Pillow's luminance.

    Grey has the mode L and keeps its values. `Planes` have no colours: they are not changed.
    """
    if isinstance(image, Planes):
        return image
    image = to_srgb(image) if icc else image
    mode = {1: "L", 3: "RGB"}[channels]
    return image if image.mode == mode else image.convert(mode)


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
