"""Images of any number of bands: NumPy arrays (`.npy`), TIFFs of bands, pictures with alpha."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtrain.errors import DataError, counted
from vtrain.files.lazy_image import Bands, DeepGrey, LazyImage, image_of
from vtrain.files.tiff_bands import band_tags, tiff_bands, unpacked_bytes
from vtrain.files.to_rgb import declared_range, float_range, without_nodata

NPY = b"\x93NUMPY"
MOST_BANDS = 1024
"""More than any instrument has: a longer axis is none of bands."""


def is_stack(data: bytes) -> bool:
    """Whether a file is an array, or a TIFF whose bands can be read without Pillow."""
    return data.startswith(NPY) or band_tags(data) is not None


def stack_image(data: bytes, most_pixels: int, most_bytes: int, where: str | None) -> Image.Image:
    """Return a stack as an image: of one band as a grey one, which may be deep.

    Raises:
        DataError: It is damaged, no image, or too large.
    """
    tags = band_tags(data)
    if tags is None:
        return _image_of(array_in(data, most_pixels), {}, where)
    if tags[256] * tags[257] > most_pixels:
        raise too_large(tags[257], tags[256], tags.get(277, 1))
    return _image_of(bands_of(data, tags, most_bytes), tags, where)


def array_image(array: NDArray[Any], most_pixels: int) -> Image.Image:
    """Return an array as the image that its `.npy` file is.

    Raises:
        DataError: It is no image, or too large.
    """
    return _image_of(as_bands(array, most_pixels), {}, None)


def _image_of(samples: NDArray[Any], tags: Mapping[int, Any], where: str | None) -> Image.Image:
    samples, low, high = with_range(samples, tags)
    height, width, count = samples.shape
    if count > 1:
        return Bands((width, height), count, lambda: (samples, low, high), None, where)
    if samples.dtype == np.uint8:
        return image_of(samples).convert("RGB")
    return DeepGrey(samples[..., 0], low, high, white_is_zero=tags.get(262) == 0)


def beside(
    picture: Image.Image,
    tags: Mapping[int, Any],
    read: Callable[[], NDArray[Any]],
    where: str | None,
) -> Image.Image:
    """Return a picture of a TIFF that has more bands than are seen, with all of them.

    Args:
        picture: What is seen of it.
        tags: Of the TIFF; of another file none.
        read: Gives the bands.
        where: The file, for messages.
    """
    count = tags.get(277, 1)
    # Of two bands Pillow shows the first, of more than four the first three.
    if count in {1, 3} or isinstance(picture, LazyImage):
        return picture
    return Bands(picture.size, count, lambda: with_range(read(), tags), picture, where)


def bands_of(data: bytes, tags: dict[int, Any], most_bytes: int) -> NDArray[Any]:
    """Return the bands of a TIFF that are no more than so many bytes. Shape: (H, W, C).

    Raises:
        DataError: It is too large, or damaged.
    """
    if unpacked_bytes(tags) > most_bytes:
        raise too_large(tags[257], tags[256], tags.get(277, 1))
    return tiff_bands(data, tags)


def too_large(height: int, width: int, count: int) -> DataError:
    """Refuse what would take gigabytes to unpack."""
    what = f"an image of {width} x {height} pixels and {counted(count, 'band')} is over the limit"
    return DataError(what, None, "scale it down, or cut it into parts, first")


def array_in(data: bytes, most_pixels: int) -> NDArray[Any]:
    """Return the array of a `.npy` file as (H, W, C), without copying or unpickling anything.

    Raises:
        DataError: It is damaged, or no image.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = reader(stream)
        _check_numbers(dtype)
        flat = np.frombuffer(data, dtype, offset=stream.tell())
        array = flat.reshape(shape, order="F" if by_columns else "C")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"a damaged NumPy array ({error!s:.60})", None, "save it again") from None
    return as_bands(array, most_pixels)


def _check_numbers(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise DataError(f"an array of {dtype}, which is no image", None, "save it as numbers")


def as_bands(array: NDArray[Any], most_pixels: int) -> NDArray[Any]:
    """Return an array as (H, W, C), without copying it.

    (H, W) is one band. Of three axes the shorter one of the first and the last is that of the
    bands, and of two of one length the last: (H, W, C), or (C, H, W).

    Raises:
        DataError: It is no image, or too large.
    """
    _check_numbers(array.dtype)
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[0] < array.shape[2]:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or not 0 < array.shape[2] <= MOST_BANDS or 0 in array.shape:
        what = f"an array of shape {tuple(shape)!s:.60}, which is no image"
        raise DataError(what, None, "save each image as (H, W), (H, W, C) or (C, H, W)")
    if array.shape[0] * array.shape[1] > most_pixels:
        raise too_large(*array.shape)
    return array


def with_range(samples: NDArray[Any], tags: Mapping[int, Any]) -> tuple[NDArray[Any], float, float]:
    """Return samples with the values of black and white, by a TIFF's tags or their type."""
    samples = without_nodata(samples, tags.get(42113))
    if samples.dtype.kind == "f":
        return float_range(samples)
    if samples.dtype.kind == "b":
        return samples, 0.0, 1.0
    if tags:
        return (samples, *declared_range(tags))
    limits = np.iinfo(samples.dtype)
    return samples, float(limits.min), float(limits.max)
