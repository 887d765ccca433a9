"""The one image decoder: fit, eval and predict all read their files here.

A picture is 8-bit RGB, upright (EXIF orientation applied), its first frame only. What is behind a
transparent pixel is `BACKGROUND`; samples wider than 8 bits are scaled by their bit depth, never
clipped. A JPEG of more than `MAX_PIXELS` is decoded at half its width and height. A file is
untrusted: only regular files of a closed list of formats are opened, and size and pixel count are
checked before anything is decoded.
"""

import io
import logging
import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

from vtrain.errors import DataError
from vtrain.files.image_kinds import COMPRESSIONS, kind_of

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")
"""What Pillow may try. Left to itself it sniffs forty formats, and hands EPS to Ghostscript."""
ENDINGS = "jpg jpeg jpe jfif png apng bmp dib gif webp avif tif tiff ppm pgm pbm pnm"
EXTENSIONS = frozenset(f".{ending}" for ending in ENDINGS.split())
"""Lower-case endings of file names that are taken for images in a folder."""
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
"""Pixels that are decoded at most."""
SCALED_DOWN = 4
"""A JPEG may have so many times more, as cameras of telephones do; half of it if it is progressive,
which holds all of its coefficients in memory."""
MAX_SIDE = 1_000_000
"""A longer side would take resampling weights of gigabytes to scale."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
BACKGROUND = (255, 255, 255)
"""White: the page that most images with transparency were drawn for."""


class TooManyPixelsError(DataError):
    """An image is larger than what is decoded."""


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to 8-bit RGB.

    Raises:
        DataError: The file is absent, not a regular file, too large, or not a readable image.
    """
    return decode_image(read_bytes(path), path, max_pixels=max_pixels)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file of bounded size.

    Raises:
        DataError: The file is absent, unreadable, not a regular file, or too large.
    """
    try:
        # Non-blocking: opening a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise DataError("no such image file", _shown(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise _unreadable(path, error) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise DataError("a folder where an image file should be", _shown(path))
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not a regular file", _shown(path), "give an image file")
        if status.st_size > MAX_FILE_BYTES:
            size = f"{status.st_size:,} bytes, over the limit of {MAX_FILE_BYTES:,}"
            raise DataError(f"an image file of {size}", _shown(path))
        return _read(descriptor, status.st_size)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    """Read a file to its end, without a buffered file around it: that costs as much again."""
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


def _unreadable(path: object, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or "its name is not valid"
    return DataError(f"cannot read the image file: {reason}", _shown(path))


def decode_image(data: bytes, where: object = None, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the content of an image file to 8-bit RGB; `where` names it in errors.

    Raises:
        DataError: The content is not a readable image of a known format, or has too many pixels.
    """
    _hush_pillow()
    try:
        with _opened(data) as image:
            _check_size(image, max_pixels)
            return _to_rgb(_upright(image))
    except DataError as error:
        raise type(error)(error.what, _shown(where), error.hint) from None
    except MemoryError:
        raise DataError("too little memory to decode this image", _shown(where)) from None
    except Image.DecompressionBombError:
        what = f"an image with more pixels than the limit of {max_pixels:,}"
        raise TooManyPixelsError(what, _shown(where), "scale it down first") from None
    except UnidentifiedImageError as error:
        what, advice = kind_of(data)
        readable = f"readable formats are {', '.join(FORMATS)}"
        raise DataError(
            f"not a readable image ({what})", _shown(where), advice or readable
        ) from error
    except Exception as error:
        # Pillow raises at least OSError, ValueError, SyntaxError, struct.error and EOFError on
        # damaged files; its texts are for programmers, so only the kind of trouble is passed on.
        raise DataError("a damaged image", _shown(where), "replace or remove it") from error


def rgb(image: Image.Image) -> Image.Image:
    """Return an image that Pillow has opened, or made, as every image is here: 8-bit RGB, upright.

    Raises:
        DataError: It is only the preview of a camera's raw file, or a JPEG that is too large.
    """
    _hush_pillow()
    large = image.width * image.height > MAX_PIXELS
    if large and isinstance(image, JpegImagePlugin.JpegImageFile) and image.tile and image.fp:
        image.fp.seek(0)  # not decoded yet: as its file, at half its size
        return decode_image(image.fp.read())
    return _to_rgb(_upright(image))


def _opened(data: bytes) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        UnidentifiedImageError: It is none of the readable formats, or of a kind that is not read.
    """
    if data.startswith(b"\xff\xd8\xff"):
        # `Image.open` has a limit of its own, below what the largest cameras make.
        try:
            return JpegImagePlugin.jpeg_factory(io.BytesIO(data))
        except SyntaxError as error:  # a kind of JPEG, such as 12 bits
            raise UnidentifiedImageError(str(error)) from error
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if _tags(image).get(259) in COMPRESSIONS:
        raise UnidentifiedImageError("a codec that Pillow's libtiff has not")
    return image


def frames_and_depth(data: bytes) -> tuple[int, bool]:
    """Return how many frames or pages a file has, and whether it is grey of more than 8 bits.

    A JPEG has one: a telephone's has a map of its brightness behind it. So has what is damaged.
    """
    try:
        with _opened(data) as image:
            one = isinstance(image, JpegImagePlugin.JpegImageFile)
            return 1 if one else getattr(image, "n_frames", 1), _is_deep(image)
    except Exception:  # of every kind, as in `decode_image`, which says what is wrong
        return 1, False


def _is_deep(image: Image.Image) -> bool:
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image that is too large, and let a JPEG that nearly is be decoded in part.

    Raises:
        DataError: It has too many pixels, or a side is too long.
    """
    width, height = image.size
    size = f"an image of {width} x {height} pixels"
    limit = max_pixels
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        limit *= SCALED_DOWN // (2 if "progressive" in image.info else 1)
    if width * height > limit:
        hint = "scale it down first"
        if limit == max_pixels:
            hint += f", or save it as JPEG, of which {SCALED_DOWN * max_pixels:,} are read"
        raise TooManyPixelsError(f"{size} is over the limit of {limit:,}", hint=hint)
    if max(width, height) > MAX_SIDE:
        raise TooManyPixelsError(f"{size} has a side over the limit of {MAX_SIDE:,}")
    if width * height > max_pixels:  # a half is enough for SCALED_DOWN times as many
        image.draft(None, (width // 2, height // 2))


def _upright(image: Image.Image) -> Image.Image:
    """Decode the first frame and apply the EXIF orientation; a broken EXIF block counts as none."""
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF; of another image none."""
    return getattr(image, "tag_v2", None) or {}


def _to_rgb(image: Image.Image) -> Image.Image:
    tags = _tags(image)
    if tags.get(254, 0) & 1:  # NewSubfileType: a reduced version of another image in the file
        raise DataError(
            f"a preview of {image.width} x {image.height} pixels beside another image, as a "
            "camera's raw file has",
            hint="develop it first, or save the image itself",
        )
    if _is_deep(image):
        return _to_grey8(image).convert("RGB")
    if image.mode in {"L", "RGB"} and tags.get(339, (1,))[0] == 2:
        # SampleFormat: signed bytes, which Pillow takes for unsigned ones.
        image = Image.fromarray(np.asarray(image) ^ 0x80)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(page, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_grey8(image: Image.Image) -> Image.Image:
    """Scale a deep grey image to 8 bits by the range of its samples."""
    samples, tags = np.asarray(image), _tags(image)
    low, high = 0.0, 0.0
    if image.mode != "F":
        low, high = _declared_range(image)
        if image.mode == "I" and low == 0:
            samples = samples.view(np.uint32)  # Pillow reads unsigned 32 bits as signed
    samples = _without_nodata(samples, tags.get(42113))
    if image.mode == "F":
        # Floats declare no range: it is the first of the usual ones that holds the whole image.
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = min(0.0, samples.min()), samples.max()
        high = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    scaled = samples.astype(np.float32)  # a float64 copy of 64 million pixels would be half a GB
    scaled -= low
    scaled *= 255 / (high - low)
    grey = np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
    # Pillow turns a photometric interpretation of WhiteIsZero round only for samples of 8 bits.
    return Image.fromarray(255 - grey if tags.get(262) == 0 else grey)


def _without_nodata(samples: NDArray[Any], declared: object) -> NDArray[Any]:
    """Give samples that mean "nothing was measured here" (GDAL_NODATA) the smallest other value."""
    try:
        nodata = samples.dtype.type(float(str(declared).strip("\0 ")))
    except (ValueError, OverflowError):  # none is declared, or one that no sample can have
        return samples
    absent = samples == nodata
    if not absent.any() or absent.all():
        return samples
    return np.where(absent, samples[~absent].min(), samples)


def _declared_range(image: Image.Image) -> tuple[float, float]:
    """Return what black and white are in a deep image of integers."""
    tags = _tags(image)
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


def _hush_pillow() -> None:
    """Keep Pillow's remarks on odd metadata off the terminal; real damage raises."""
    # Not `catch_warnings`, which is not safe in threads; repeated because tests reset the filters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    pillow = logging.getLogger("PIL")
    if pillow.level != logging.CRITICAL:
        pillow.setLevel(logging.CRITICAL)


def _shown(path: object) -> str | None:
    if path is None:
        return None
    if isinstance(path, (str, bytes, os.PathLike)):
        # Undecodable bytes arrive as lone surrogates, which no terminal or JSON file can hold.
        return os.fsencode(path).decode(errors="backslashreplace")
    return str(path)


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image, in either case."""
    return Path(name).suffix.lower() in EXTENSIONS
