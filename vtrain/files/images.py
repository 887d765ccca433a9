"""The one image decoder: fit, eval and predict all read their files here.

A picture is 8-bit RGB, upright (EXIF orientation applied), its first frame only. What is behind a
transparent pixel is `BACKGROUND`; samples wider than 8 bits are scaled by their bit depth, never
clipped. A file is untrusted: only regular files of a closed list of formats are opened, and size
and pixel count are checked before anything is decoded.
"""

import io
import logging
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from vtrain.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What Pillow may try. Left to itself it sniffs forty formats, and hands EPS to Ghostscript."""
ENDINGS = "jpg jpeg jpe jfif png apng bmp dib gif webp tif tiff ppm pgm pbm pnm"
EXTENSIONS = frozenset(f".{ending}" for ending in ENDINGS.split())
"""Lower-case endings of file names that are taken for images in a folder."""
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
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
LOOKS = {
    (b"<!doctype html", b"<html"): "a web page",
    (b"<svg", b"<?xml"): "SVG or XML",
    (b"version https://git-lfs",): "a Git LFS pointer, which `git lfs pull` replaces",
    (b"%pdf",): "PDF",
    (b"%!ps",): "PostScript",
}
"""How files begin that are often met where an image should be."""
BACKGROUND = (255, 255, 255)
"""White: the page that most images with transparency were drawn for."""


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
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DataError(
                    f"an image of {width} x {height} pixels is over the limit of {max_pixels:,}",
                    _shown(where),
                )
            return _to_rgb(_upright(image))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(
            f"an image with more pixels than the limit of {max_pixels:,}", _shown(where)
        ) from None
    except Exception as error:
        # Pillow raises at least OSError, ValueError, SyntaxError, struct.error and EOFError on
        # damaged files; its texts are for programmers, so only the kind of trouble is passed on.
        known = isinstance(error, UnidentifiedImageError)
        what = f"not a readable image ({_looks_like(data)})" if known else "a damaged image"
        hint = f"readable formats are {', '.join(FORMATS)}" if known else "replace or remove it"
        raise DataError(what, _shown(where), hint) from error


def _upright(image: Image.Image) -> Image.Image:
    """Decode the first frame and apply the EXIF orientation; a broken EXIF block counts as none."""
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _to_grey8(image).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(page, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_grey8(image: Image.Image) -> Image.Image:
    """Scale a deep grey image to 8 bits by the range of its samples."""
    samples = np.asarray(image)
    if image.mode == "F":
        # Floats declare no range: it is the first of the usual ones that holds the whole image.
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = min(0.0, samples.min()), samples.max()
        high = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
    else:
        low, high = _declared_range(image)
        if image.mode == "I" and low == 0:
            samples = samples.view(np.uint32)  # Pillow reads unsigned 32 bits as signed
    scaled = samples.astype(np.float32)  # a float64 copy of 64 million pixels would be half a GB
    scaled -= low
    scaled *= 255 / (high - low)
    return Image.fromarray(np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8))


def _declared_range(image: Image.Image) -> tuple[float, float]:
    """Return what black and white are in a deep image of integers."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # PNG and PPM, which Pillow brings to 16 bits
        return 0.0, 2.0**16 - 1
    bits = tags.get(258, (16,))[0]  # BitsPerSample
    if tags.get(339, (1,))[0] == 2:  # SampleFormat: signed integers
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None, "it is not asked to convert in place"
    return converted


def _looks_like(data: bytes) -> str:
    if not data:
        return "the file is empty"
    head = data[:512].lstrip().lower()
    for starts, kind in LOOKS.items():
        if head.startswith(starts):
            return f"it looks like {kind}"
    return "it looks like HEIC, AVIF or video" if head[4:8] == b"ftyp" else "unknown format"


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
