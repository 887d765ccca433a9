"""The bands of a TIFF that Pillow does not show as they are: any number, of 8 to 64 bits.

The tags are read by Pillow's parser, and the pieces of the image unpacked by its libtiff: each is
handed over as a grey TIFF of bytes, so that its bands, their type and the predictor are left to do.
"""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from vtrain.errors import DataError
from vtrain.files.image_kinds import TIFF_STARTS, tiff_tags

PACKED = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions that unpack to samples: none, LZW, deflate, PackBits, LZMA, Zstandard."""
KINDS = {1: "u", 2: "i", 3: "f"}
"""SampleFormat -> NumPy's kind."""
TURNED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""The tag Orientation -> what makes samples (H, W, C) upright."""


def band_tags(data: bytes) -> dict[int, Any] | None:
    """Return the tags of a TIFF whose bands `tiff_bands` reads; None of everything else."""
    if data[:4] not in TIFF_STARTS:
        return None
    try:
        tags = dict(tiff_tags(data))
        kind = KINDS[tags.get(339, (1,))[0]]
        bits = {*tags[258]}
        readable = (
            len(bits) == 1
            and bits <= ({16, 32, 64} if kind == "f" else {8, 16, 32, 64})
            and tags.get(259, 1) in PACKED
            and tags.get(317, 1) in (1, 2, 3)
            # Grey, RGB or nothing said: not a palette, nor what a sensor saw through its mosaic.
            and (tags.get(262, 1) in (1, 2) or (tags[262] == 0 and tags.get(277, 1) == 1))
            and 50706 not in tags
            and not tags.get(254, 0) & 1
            and min(tags[256], tags[257], tags.get(277, 1)) > 0
        )
    except Exception:  # Pillow's parser raises whatever a damaged directory leads to
        return None
    return tags if readable else None


def unpacked_bytes(tags: dict[int, Any]) -> int:
    """Return how many bytes the pieces of a TIFF are unpacked to.

    Tiles at the border are unpacked in full, and may be larger than the image by far.
    """
    width, height, count = tags[256], tags[257], tags.get(277, 1)
    if 322 in tags:
        width, height = (-(-n // tags[tag]) * tags[tag] for n, tag in ((width, 322), (height, 323)))
    size: int = width * height * count * tags[258][0] // 8
    return size


def tiff_bands(data: bytes, tags: dict[int, Any]) -> NDArray[Any]:
    """Return all bands of the first image of a TIFF, upright. Shape: (H, W, C), of its own type.

    Raises:
        DataError: It is damaged.
    """
    width, height, count = tags[256], tags[257], tags.get(277, 1)
    dtype = np.dtype(
        f"{'<' if data[:1] == b'I' else '>'}{KINDS[tags.get(339, (1,))[0]]}{tags[258][0] // 8}"
    )
    apart = tags.get(284, 1) == 2  # PlanarConfiguration: each band in pieces of its own
    across, down = (
        (tags[322], tags[323]) if 322 in tags else (width, min(tags.get(278, height), height))
    )
    starts, lengths = (tags[324], tags[325]) if 322 in tags else (tags[273], tags[279])
    columns, rows = -(-width // across), -(-height // down)
    each = 1 if apart else count
    if len(starts) != columns * rows * (count // each) or len(lengths) != len(starts):
        raise DataError("a damaged TIFF: it lacks pieces")
    whole = np.zeros((height, width, count), dtype.newbyteorder("="))
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        band, place = divmod(number, columns * rows)
        top, left = place // columns * down, place % columns * across
        # The last strip is as high as what is left; tiles are filled up.
        high = down if 322 in tags else min(down, height - top)
        piece = data[start : start + length]
        content = _unpacked(piece, tags.get(259, 1), across * each * dtype.itemsize, high)
        samples = _unpredicted(content, tags.get(317, 1), dtype, each)
        target = whole[top : top + down, left : left + across, band if apart else slice(None)]
        part = samples[: target.shape[0], : target.shape[1]]
        target[...] = part[..., 0] if apart else part
    turn = TURNED.get(tags.get(274, 1))
    return whole if turn is None else np.ascontiguousarray(turn(whole))


def _unpacked(piece: bytes, compression: int, width: int, height: int) -> NDArray[np.uint8]:
    """Unpack a strip or a tile to bytes. Shape: (height, width) uint8."""
    size = width * height
    if compression == 1:
        if len(piece) < size:
            raise DataError("a damaged TIFF: a piece ends early")
        return np.frombuffer(piece, np.uint8, size).reshape(height, width)
    # 258: bits, 262: photometric, 273: where the strip is, 277: bands, 278: its rows, 279: bytes.
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1}
    tags |= {278: height, 279: len(piece)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(piece))
    file = head + piece + struct.pack("<H", len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        return np.asarray(image)


def _unpredicted(
    content: NDArray[np.uint8], predictor: int, dtype: np.dtype[Any], bands: int
) -> NDArray[Any]:
    """Undo the predictor. Shape: (rows, bytes of a row) -> (rows, columns, bands)."""
    rows = len(content)
    if predictor == 3:  # of floats: differences of bytes, the highest of all samples first
        summed = content.reshape(rows, -1, bands).cumsum(1, dtype=np.uint8)
        bytes_ = summed.reshape(rows, dtype.itemsize, -1).swapaxes(1, 2)
        big = np.ascontiguousarray(bytes_).view(dtype.newbyteorder(">"))
        return big.reshape(rows, -1, bands)
    samples = np.ascontiguousarray(content).view(dtype).reshape(rows, -1, bands)
    if predictor == 2:  # differences to the sample on the left, which overflow
        unsigned = samples.astype(f"u{dtype.itemsize}") if dtype.kind != "f" else samples
        return unsigned.cumsum(1, dtype=unsigned.dtype).view(samples.dtype.newbyteorder("="))
    return samples
