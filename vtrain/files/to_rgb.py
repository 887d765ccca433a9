"""From what Pillow decodes to 8-bit RGB: depth, colour spaces and transparency."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from vtrain.errors import DataError
from vtrain.files.lazy_image import Bands, DeepGrey

BACKGROUND = (255, 255, 255)
"""White: the page that most images with transparency were drawn for."""


def is_deep(image: Image.Image) -> bool:
    """Whether an image is grey of more than 8 bits."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF; of another image none."""
    return getattr(image, "tag_v2", None) or {}


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded image as 8-bit RGB, of a deep one in the range that its file declares.

    Raises:
        DataError: It is only the preview of a camera's raw file.
    """
    tags = tags_of(image)
    if tags.get(254, 0) & 1:  # NewSubfileType: a reduced version of another image in the file
        raise DataError(
            f"a preview of {image.width} x {image.height} pixels beside another image, as a "
            "camera's raw file has",
            hint="develop it first, or save the image itself",
        )
    if is_deep(image):
        return _deep_grey(image)
    if image.mode in {"L", "RGB"} and tags.get(339, (1,))[0] == 2:
        # SampleFormat: signed bytes, which Pillow takes for unsigned ones.
        image = Image.fromarray(np.asarray(image) ^ 0x80)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _on_page(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_page(image: Image.Image) -> Bands:
    """Return an image with transparency on white, and what it is without the page."""
    colours = image.convert("RGBA")
    bands = image.convert("LA") if image.mode in {"LA", "La"} else colours
    page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    seen = Image.alpha_composite(page, colours).convert("RGB")
    seen.info.update(image.info)  # the colour profile
    count = len(bands.getbands())
    return Bands(image.size, count, lambda: (np.asarray(bands), 0.0, 255.0), seen)


def _deep_grey(image: Image.Image) -> DeepGrey:
    """Return a deep grey image with the range of its samples."""
    samples, tags = np.asarray(image), tags_of(image)
    low, high = 0.0, 0.0
    if image.mode != "F":
        low, high = declared_range(tags)
        if image.mode == "I" and low == 0:
            samples = samples.view(np.uint32)  # Pillow reads unsigned 32 bits as signed
    samples = without_nodata(samples, tags.get(42113))
    if image.mode == "F":
        samples, low, high = float_range(samples)
    # Pillow turns a photometric interpretation of WhiteIsZero round only for samples of 8 bits.
    return DeepGrey(samples, low, high, white_is_zero=tags.get(262) == 0)


def float_range(samples: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return floats without what is no number, and the values of black and white."""
    # Floats declare no range: it is the first of the usual ones that holds the whole image.
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(0.0, samples.min()), samples.max()
    return samples, low, next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)


def without_nodata(samples: NDArray[Any], declared: object) -> NDArray[Any]:
    """Give samples that mean "nothing was measured here" (GDAL_NODATA) the smallest other value."""
    try:
        value = float(str(declared).strip("\0 "))
    except ValueError:  # none is declared
        return samples
    if samples.dtype.kind in "iu":
        limits = np.iinfo(samples.dtype)
        # One that no sample can have, such as -9999 of unsigned numbers, which would wrap around.
        if not (value.is_integer() and limits.min <= value <= limits.max):
            return samples
    with np.errstate(over="ignore"):  # beyond floats of 32 bits it is infinite
        nodata = samples.dtype.type(value)
    absent = samples == nodata
    if not absent.any() or absent.all():
        return samples
    return np.where(absent, samples[~absent].min(), samples)


def declared_range(tags: Mapping[int, Any]) -> tuple[float, float]:
    """Return what black and white are in an image of integers, by its tags."""
    if not tags:  # PNG and PPM, which Pillow brings to 16 bits
        return 0.0, 2.0**16 - 1
    bits = tags.get(258, (16,))[0]  # BitsPerSample
    if tags.get(339, (1,))[0] == 2:  # SampleFormat: signed integers
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    # MaxSampleValue is for statistics, by the standard; but 4095 says that a camera has 12 bits.
    largest = tags.get(281, (0,))[0]
    if largest.bit_length() in range(8, bits) and largest == 2 ** largest.bit_length() - 1:
        return 0.0, float(largest)
    return 0.0, 2.0**bits - 1


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None, "it is not asked to convert in place"
    return converted
