"""The one image decoder: fit, eval and predict all read their files here.

A picture is 8-bit RGB, upright (EXIF orientation applied), its first frame only; what has other
bands has them beside that, for `data.channels` (`vtrain.files.stacks`). What is behind a
transparent pixel is `BACKGROUND`; samples wider than 8 bits are scaled by their bit depth, never
clipped. A JPEG of more than `MAX_PIXELS` is decoded at half its width and height. A file is
untrusted: only regular files of a closed list of formats are opened, and size and pixel count are
checked before anything is decoded.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from vtrain.errors import DataError
from vtrain.files.colour_profile import PROFILE
from vtrain.files.image_kinds import COMPRESSIONS, is_canon_raw, is_heic, is_lossless, kind_of
from vtrain.files.image_readers import heic_formats, hush_pillow
from vtrain.files.large_jpeg import LARGE, Box, LargeJpeg, halved, reduce
from vtrain.files.lazy_image import LazyImage
from vtrain.files.stacks import bands_of, beside, is_stack, stack_image
from vtrain.files.surplus import marked
from vtrain.files.tiff_bands import band_tags
from vtrain.files.to_rgb import tags_of, to_rgb

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000")
"""What Pillow may try. Left to itself it sniffs forty formats, and hands EPS to Ghostscript."""
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
"""Pixels that are decoded at most."""
MAX_BAND_BYTES = 16 * MAX_PIXELS
"""Of a TIFF that is no picture, once it is unpacked: 8 bands of 16 bits of the most pixels."""
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


def decode_image(
    data: bytes,
    where: object = None,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BAND_BYTES,
) -> Image.Image:
    """Decode the content of an image file to 8-bit RGB; `where` names it in errors.

    A large JPEG is decoded when its pixels are asked for, and may be asked for on a smaller scale.

    Raises:
        DataError: The content is not a readable image of a known format, or has too many pixels.
            That a large JPEG is damaged is said only once it is decoded.
    """

    def bands(tags: dict[int, Any]) -> NDArray[Any]:
        with _named(data, where, max_pixels):
            return bands_of(data, tags, max_bytes)

    with _named(data, where, max_pixels):
        try:
            opened = _opened(data)
        except UnidentifiedImageError:
            if not is_stack(data):
                raise
            image = stack_image(data, max_pixels, max_bytes, _shown(where))
            return marked(image, None, data)
        with opened as image:
            least = _check_size(image, max_pixels)
            if not _is_large(image, data, least):
                picture, tags = _decoded(image, least)[0], band_tags(data) or {}
                picture = beside(picture, tags, lambda: bands(tags), _shown(where))
                return marked(picture, image, data)
            width, height = halved(image.size, least)
            size = (height, width) if _turn(image) >= 5 else (width, height)
            profile = image.info.get(PROFILE)

    def decode(factor: int) -> tuple[Image.Image, Box]:
        with _named(data, where, max_pixels), _opened(data) as image:
            return _decoded(image, least, factor)

    return LargeJpeg(size, decode, profile)


@contextmanager
def _named(data: bytes, where: object, max_pixels: int) -> Iterator[None]:
    """Turn whatever decoding raises into a DataError that names the image."""
    hush_pillow()
    try:
        yield
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


def _is_large(image: Image.Image, data: bytes, least: int) -> bool:
    """Whether an image is a JPEG that had better not be decoded in full unless it must."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return False
    width, height = halved(image.size, least)
    # The library does not scale what is coded without a transform.
    return width * height >= LARGE and not is_lossless(data)


def _decoded(image: Image.Image, least: int, factor: int = 1) -> tuple[Image.Image, Box]:
    """Return an upright RGB image, of a JPEG on a smaller scale, and where the whole lies in it."""
    if least * factor == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile):
        picture = to_rgb(_upright(image))
        return picture, (0, 0, *picture.size)
    whole = reduce(image, least, factor, _turn(image))
    return to_rgb(_upright(image)), whole


def rgb(image: Image.Image) -> Image.Image:
    """Return an image that Pillow has opened, or made, as every image is here: 8-bit RGB, upright.

    Raises:
        DataError: It is only the preview of a camera's raw file, or a JPEG that is too large.
    """
    hush_pillow()
    if isinstance(image, LazyImage):
        return image
    if (
        isinstance(image, JpegImagePlugin.JpegImageFile)
        and image.width * image.height >= LARGE
        # Not decoded yet, nor asked for at another scale or frame: it is read as its file is.
        and image.tile
        and image.fp
        and not (image.decoderconfig or image.tell())
    ):
        image.fp.seek(0)
        return decode_image(image.fp.read())
    return to_rgb(_upright(image))


def _is_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff")


def _opened(data: bytes) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        UnidentifiedImageError: It is none of the readable formats, or of a kind that is not read.
        SyntaxError: It is damaged.
    """
    if _is_jpeg(data):
        # `Image.open` has a limit of its own, below what the largest cameras make.
        try:
            return JpegImagePlugin.jpeg_factory(io.BytesIO(data))
        except SyntaxError as error:  # a kind of JPEG, such as 12 bits
            raise UnidentifiedImageError(str(error)) from error
    more = heic_formats() if is_heic(data) else ()
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS + more)
    except UnidentifiedImageError as error:
        if more:  # its kind is known, and is read
            raise SyntaxError(str(error)) from error
        raise
    if tags_of(image).get(259) in COMPRESSIONS or is_canon_raw(data):
        raise UnidentifiedImageError("a codec that Pillow's libtiff has not, or a raw file")
    return image


def _check_size(image: Image.Image, max_pixels: int) -> int:
    """Refuse an image that is too large; return what a JPEG's sides must be divided by.

    Raises:
        DataError: It has too many pixels, or a side is too long.
    """
    width, height = image.size
    size = f"an image of {width} x {height} pixels"
    limit = max_pixels
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        limit *= SCALED_DOWN // (2 if "progressive" in image.info else 1)
    elif image.format == "JPEG2000":  # its library takes 20 bytes for each pixel
        limit //= SCALED_DOWN
    if width * height > limit:
        hint = "scale it down first"
        if limit == max_pixels:
            hint += f", or save it as JPEG, of which {SCALED_DOWN * max_pixels:,} are read"
        raise TooManyPixelsError(f"{size} is over the limit of {limit:,}", hint=hint)
    if max(width, height) > MAX_SIDE:
        raise TooManyPixelsError(f"{size} has a side over the limit of {MAX_SIDE:,}")
    return 2 if width * height > max_pixels else 1  # enough for SCALED_DOWN times as many


def _upright(image: Image.Image) -> Image.Image:
    """Decode the first frame and apply the EXIF orientation."""
    image.load()
    turn = TURNS.get(_turn(image))
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> int:
    """Return the EXIF orientation; a broken EXIF block counts as none."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return turn if turn in TURNS else 1


def _shown(path: object) -> str | None:
    if path is None:
        return None
    if isinstance(path, (str, bytes, os.PathLike)):
        # Undecodable bytes arrive as lone surrogates, which no terminal or JSON file can hold.
        return os.fsencode(path).decode(errors="backslashreplace")
    return str(path)
