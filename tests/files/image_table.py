"""One photograph in every format, depth, orientation, profile and layout, and its true pixels.

The reference is the array that the file was made from, turned into RGB by a formula: no decoder is
asked. What is not read is here with the words that name it and the way out.
"""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tests.files.profiles import profile

Levels = NDArray[np.float64]
WIDTH, HEIGHT = 45, 34
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
PHOTO = np.stack(
    [
        127 + 100 * np.sin(X / 9) * np.cos(Y / 7),
        40 + 170 * X / WIDTH,
        230 - 160 * Y / HEIGHT + 20 * np.sin(X / 5),
    ],
    axis=-1,
).round()  # (HEIGHT, WIDTH, 3), smooth, and different in every direction
GREY = PHOTO[..., :1].repeat(3, 2)
ALPHA = (255 * X / WIDTH).round()[..., None]  # (HEIGHT, WIDTH, 1)


def bytes_of(levels: Levels) -> NDArray[np.uint8]:
    return np.ascontiguousarray(levels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


COLOUR, MONO = Image.fromarray(bytes_of(PHOTO)), Image.fromarray(bytes_of(GREY[..., 0]))


def tiff(samples: NDArray[np.generic], changes: dict[int, int] | None = None) -> bytes:
    """An uncompressed TIFF by hand, in the byte order of the samples.

    Shape: (H, W) or (H, W, n).
    """
    bands, bits = samples[0, 0].size, 8 * samples.itemsize
    order = ">" if samples.dtype.byteorder == ">" else "<"
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    body = samples.tobytes()
    # One number for all bands is what readers take, though the standard wants one for each.
    tags = {256: samples.shape[1], 257: samples.shape[0], 258: bits, 259: 1, 262: 1, 273: 8}
    tags |= {277: bands, 278: samples.shape[0], 279: len(body), 339: kind, **(changes or {})}
    entries = b"".join(struct.pack(f"{order}HHII", t, 4, 1, tags[t]) for t in sorted(tags))
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def tiff_in_pieces(pieces: list[bytes], starts: int, tags: dict[int, int]) -> bytes:
    """An RGB TIFF by hand in strips or tiles; `starts` is the tag that says where they are."""
    listed = [8 + sum(map(len, pieces[:n])) for n in range(len(pieces))]
    body = b"".join(pieces)
    lists = {starts: listed, {273: 279, 324: 325}[starts]: [len(piece) for piece in pieces]}
    entries = {tag: (1, value) for tag, value in tags.items()}
    entries |= {256: (1, WIDTH), 257: (1, HEIGHT), 258: (1, 8), 259: (1, 1), 262: (1, 2)}
    entries |= {277: (1, 3)}
    for tag, values in lists.items():
        entries[tag] = (len(values), 8 + len(body))
        body += struct.pack(f"<{len(values)}I", *values)
    directory = b"".join(struct.pack("<HHII", t, 4, *entries[t]) for t in sorted(entries))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(body))
    return head + body + struct.pack("<H", len(entries)) + directory + bytes(4)


def tiles() -> list[bytes]:
    """The photograph in squares of 32 pixels, filled up with black."""
    whole = np.zeros((64, 64, 3), np.uint8)
    whole[:HEIGHT, :WIDTH] = PHOTO
    return [whole[y : y + 32, x : x + 32].tobytes() for y in (0, 32) for x in (0, 32)]


def npy(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def png16(samples: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel by hand. Shape: (H, W, n), n of 1 to 4."""
    height, width, bands = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


STORED: dict[int, Callable[[Levels], Levels]] = {  # the table of EXIF 2.3, section 4.6.4
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: x[::-1, ::-1],
    4: np.flipud,
    5: lambda x: x.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


def turned(orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(bytes_of(STORED[orientation](PHOTO)))
    return encoded(image, kind, exif=exif.tobytes(), **options)


def on_white(levels: Levels) -> Levels:
    return (levels * ALPHA + 255 * (255 - ALPHA)) / 255


def with_alpha(levels: Levels) -> NDArray[np.uint8]:
    return bytes_of(np.concatenate([levels, ALPHA], 2))


def animated(kind: str, first: Levels = PHOTO, **options: object) -> bytes:
    # New images each time: Pillow leaves how one was saved on it, and saves it so the next time.
    frames = [Image.new("RGB", COLOUR.size, colour) for colour in ("red", "lime")]
    shown = Image.fromarray(bytes_of(first))
    return encoded(shown, kind, save_all=True, append_images=frames, **options)


FEW = PHOTO // 64 * 64  # as many colours as a palette holds
DEEP = (GREY[..., 0] * 257).astype(np.uint16)
INK = np.concatenate([255 - PHOTO, np.zeros_like(ALPHA)], 2)
FAITHFUL = {"quality": 95, "subsampling": "4:4:4"}
P3 = profile("Display P3")

READ: dict[str, tuple[bytes, Levels]] = {
    # Formats
    "png": (encoded(COLOUR, "PNG"), PHOTO),
    "bmp": (encoded(COLOUR, "BMP"), PHOTO),
    "ppm": (encoded(COLOUR, "PPM"), PHOTO),
    "gif": (encoded(Image.fromarray(bytes_of(FEW)).quantize(256), "GIF"), FEW),
    "jpeg": (encoded(COLOUR, "JPEG", **FAITHFUL), PHOTO),
    "jpeg of halved colours": (encoded(COLOUR, "JPEG", quality=95), PHOTO),
    "progressive jpeg": (encoded(COLOUR, "JPEG", progressive=True, **FAITHFUL), PHOTO),
    "lossless webp": (encoded(COLOUR, "WEBP", lossless=True), PHOTO),
    "webp": (encoded(COLOUR, "WEBP", quality=98), PHOTO),
    "avif": (encoded(COLOUR, "AVIF", **FAITHFUL), PHOTO),
    "jpeg 2000": (encoded(COLOUR, "JPEG2000"), PHOTO),
    "jpeg 2000 without its box": (encoded(COLOUR, "JPEG2000", no_jp2=True), PHOTO),
    "telephone's jpeg of two pictures": (animated("MPO", quality=95), PHOTO),
    **{
        f"tiff, {how}": (encoded(COLOUR, "TIFF", compression=how), PHOTO)
        for how in (None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd")
    },
    "tiff, jpeg": (encoded(COLOUR, "TIFF", compression="jpeg", quality=95), PHOTO),
    "big tiff": (encoded(COLOUR, "TIFF", big_tiff=True), PHOTO),
    "tiff in tiles": (tiff_in_pieces(tiles(), 324, {322: 32, 323: 32}), PHOTO),
    "tiff, a colour after the other": (
        tiff_in_pieces([bytes_of(PHOTO[..., n]).tobytes() for n in range(3)], 273, {284: 2}),
        PHOTO,
    ),
    # First frames and pages
    **{
        f"animated {kind}": (animated(kind.upper(), **options), PHOTO)
        for kind, options in (
            *(("png", {}), ("webp", {"lossless": True})),
            *(("tiff", {}), ("avif", FAITHFUL)),
        )
    },
    "animated gif": (animated("GIF", FEW), FEW),
    # Layouts of 8 bits
    "grey png": (encoded(MONO, "PNG"), GREY),
    "grey jpeg": (encoded(MONO, "JPEG", quality=95), GREY),
    "grey jpeg 2000": (encoded(MONO, "JPEG2000"), GREY),
    "palette": (encoded(Image.fromarray(bytes_of(FEW)).quantize(256), "PNG"), FEW),
    "colour and alpha": (encoded(Image.fromarray(with_alpha(PHOTO)), "PNG"), on_white(PHOTO)),
    "grey and alpha": (
        encoded(Image.fromarray(with_alpha(GREY[..., :1]), "LA"), "PNG"),
        on_white(GREY),
    ),
    "webp with alpha": (
        encoded(Image.fromarray(with_alpha(PHOTO)), "WEBP", lossless=True, exact=True),
        on_white(PHOTO),
    ),
    "ink in a tiff": (encoded(Image.fromarray(bytes_of(INK), "CMYK"), "TIFF"), PHOTO),
    "ink in a jpeg": (encoded(Image.fromarray(bytes_of(INK), "CMYK"), "JPEG", quality=95), PHOTO),
    "one bit": (encoded(Image.fromarray(GREY[..., 0] > 127), "PNG"), 255.0 * (GREY > 127)),
    "white is zero, 8 bits": (tiff(bytes_of(GREY[..., 0]), {262: 0}), 255 - GREY),
    "signed bytes": (tiff((GREY[..., 0] - 128).astype(np.int8)), GREY),
    "signed bytes of each colour": (tiff((PHOTO - 128).astype(np.int8), {262: 2}), PHOTO),
    "with a profile of wide colours": (encoded(COLOUR, "PNG", icc_profile=P3), PHOTO),
    # Depths
    "16 bits in a png": (encoded(Image.fromarray(DEEP), "PNG"), GREY),
    "16 bits in a pgm": (encoded(Image.fromarray(DEEP), "PPM"), GREY),
    "16 bits in a jpeg 2000": (encoded(Image.fromarray(DEEP), "JPEG2000"), GREY),
    "16 bits of each colour": (png16((PHOTO * 257).astype(np.uint16)), PHOTO),
    "16 bits and alpha": (
        png16((np.concatenate([PHOTO, ALPHA], 2) * 257).astype(np.uint16)),
        on_white(PHOTO),
    ),
    "16 bits": (tiff(DEEP), GREY),
    "signed 16 bits": (tiff((DEEP.astype(np.int32) - 2**15).astype(np.int16)), GREY),
    "32 bits": (tiff(DEEP.astype(np.uint32) * 65537), GREY),
    "signed 32 bits": (tiff((DEEP.astype(np.int64) * 65537 - 2**31).astype(np.int32)), GREY),
    "floats up to 1": (tiff((GREY[..., 0] / 255).astype(np.float32)), GREY),
    "half floats": (tiff((GREY[..., 0] / 255).astype(np.float16)), GREY),
    "doubles": (tiff(GREY[..., 0] / 255), GREY),
    "floats of 3 bands": (tiff((PHOTO / 255).astype(np.float32)), PHOTO),
    "numpy": (npy(bytes_of(PHOTO)), PHOTO),
    "numpy, bands first": (npy(bytes_of(PHOTO).transpose(2, 0, 1)), PHOTO),
    "numpy, grey of 16 bits": (npy(DEEP), GREY),
    "white is zero, 16 bits": (tiff(DEEP, {262: 0}), 255 - GREY),
    "16 bits, the high byte first": (tiff(DEEP.astype(">u2")), GREY),
    "white is zero, the high byte first": (tiff(DEEP.astype(">u2"), {262: 0}), 255 - GREY),
    "white is zero, floats": (tiff((GREY[..., 0] / 255).astype(np.float32), {262: 0}), 255 - GREY),
    "white is zero, doubles": (tiff(GREY[..., 0] / 255, {262: 0}), 255 - GREY),
    "12 bits, declared": (tiff(DEEP // 16, {281: 4095}), GREY),
    # Orientations
    **{
        f"{kind.lower()} turned {n}": (turned(n, kind, **options), PHOTO)
        for n in STORED
        for kind, options in (
            *(("JPEG", FAITHFUL), ("PNG", {}), ("TIFF", {}), ("AVIF", FAITHFUL)),
            ("WEBP", {"lossless": True}),
        )
    },
}
"""What it is -> the file and the levels that it must have."""


def frame(marker: int, bits: int, components: int) -> bytes:
    """The beginning of a JPEG: the header of its frame."""
    header = struct.pack(">BHHB", bits, 16, 16, components) + bytes(3 * components)
    return b"\xff\xd8\xff" + struct.pack(">BH", marker, len(header) + 2) + header


ZEROS = np.zeros((4, 4), np.uint16)
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "webp in a tiff": (tiff(ZEROS, {259: 50001}), "compressed as WebP", "deflate"),
    "lerc in a tiff": (tiff(ZEROS, {259: 34887}), "compressed as LERC", "deflate"),
    "jpeg xl in a tiff": (tiff(ZEROS, {259: 50002}), "compressed as JPEG XL", "deflate"),
    "canon's older raw": (
        b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + tiff(ZEROS)[8:],
        "a camera's raw file",
        "develop it",
    ),
    "preview of a raw file": (tiff(ZEROS, {254: 1, 50706: 1025}), "a preview", "develop it"),
    "12-bit jpeg": (frame(0xC1, 12, 3), "a JPEG of 3 x 12 bits", "JPEG of 8 bits"),
    "deep lossless jpeg": (frame(0xC3, 16, 1), "a lossless JPEG of 1 x 16", "JPEG of 8 bits"),
    "jpeg xl": (b"\xff\x0a" + bytes(20), "JPEG XL", "as djxl does"),
    "raw of canon": (b"\0\0\0\x18ftypcrx " + bytes(20), "a camera's raw file", "develop it"),
    "raw of fuji": (b"FUJIFILMCCD-RAW 0201" + bytes(20), "a camera's raw file", "develop it"),
    "raw of olympus": (b"IIRO\x08\0\0\0" + bytes(20), "a camera's raw file", "develop it"),
    "dicom": (bytes(128) + b"DICM" + bytes(20), "DICOM", "PNG or TIFF"),
    "nifti": (bytes(344) + b"n+1\0", "NIfTI", "PNG or TIFF"),
    "zipped nifti": (b"\x1f\x8b\x08" + bytes(20), "NIfTI", "unpack it"),
    "fits": (b"SIMPLE  =                    T", "FITS", "16-bit or float TIFF"),
    "pdf": (b"%PDF-1.7\n", "PDF", "readable formats"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", "readable formats"),
    "photoshop": (b"8BPS\0\1" + bytes(20), "Photoshop", "readable formats"),
    "openexr": (b"v/1\x01" + bytes(20), "OpenEXR", "readable formats"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5", "readable formats"),
    "video": (b"\0\0\0\x18ftypmp42" + bytes(20), "video", "readable formats"),
}
"""What it is -> the file, the words that name it, and those of the way out."""
