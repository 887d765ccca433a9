import io
import os
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.data.pictures import as_nobody
from tests.files.image_table import STORED
from vtrain.errors import DataError
from vtrain.files.image_names import is_image_name
from vtrain.files.images import (
    FORMATS,
    decode_image,
    read_bytes,
    read_image,
    rgb,
)
from vtrain.files.to_rgb import BACKGROUND

FAITHFUL = {
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
}


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    """Different in every pixel, and smooth, so that lossy formats keep it."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def png(width: int, height: int, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG of grey pixels written by hand, its header free to lie."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_every_allowed_format_gives_its_pixels(kind: str) -> None:
    read = pixels(decode_image(encoded(gradient(), kind, **FAITHFUL.get(kind, {}))))
    tolerance = {"JPEG": 12, "AVIF": 3, "GIF": 30}.get(kind, 0)  # lossy; 256 colours
    assert abs(read - np.asarray(gradient()).astype(int)).max() <= tolerance


def test_a_grey_image_has_three_equal_channels() -> None:
    read = pixels(decode_image(encoded(gradient().convert("L"))))
    assert (read[..., 0] == read[..., 1]).all()
    assert (read[..., 0] == np.asarray(gradient().convert("L"))).all()


# Depth, colour and transparency


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    deep = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, 0)
    for kind in ("PNG", "TIFF", "PPM"):
        read = pixels(decode_image(encoded(Image.fromarray(deep), kind)))
        assert (read[..., 0] == np.rint(deep / 65535 * 255)).all(), kind


def tiff(
    samples: np.ndarray, bits: int, sample_format: int, changes: dict[int, int] | None = None
) -> bytes:
    """An uncompressed grey TIFF written by hand. Sample formats: 1 unsigned, 2 signed, 3 float."""
    height, width, bands = *samples.shape[:2], samples.size // (samples.shape[0] * samples.shape[1])
    body = samples.tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: bands, 278: height}
    tags |= {279: len(body), 339: sample_format, **(changes or {})}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory


@pytest.mark.parametrize(
    ("dtype", "sample_format", "low", "high"),
    [
        (np.uint16, 1, 0, 2**16 - 1),
        (np.int16, 2, -(2**15), 2**15 - 1),
        (np.uint32, 1, 0, 2**32 - 1),
        (np.int32, 2, -(2**31), 2**31 - 1),
        (np.float32, 3, 0.0, 1.0),
        (np.float32, 3, 0.0, 255.0),
    ],
)
def test_deep_tiff_samples_are_scaled_by_their_declared_range(
    dtype: type, sample_format: int, low: float, high: float
) -> None:
    values = np.linspace(low, high, 5).astype(dtype)[None]
    bits = np.dtype(dtype).itemsize * 8
    read = pixels(decode_image(tiff(values, bits, sample_format)))
    assert read[0, :, 0] == pytest.approx([0, 63.75, 127.5, 191.25, 255], abs=0.51)


def test_a_float_image_without_finite_values_is_black() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype=np.float32)
    assert pixels(decode_image(tiff(values, 32, 3))).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background_not_the_hidden_colour(mode: str) -> None:
    image = Image.new(mode, (4, 4), (10, 20, 30, 0) if mode == "RGBA" else (10, 0))
    assert (pixels(decode_image(encoded(image))) == BACKGROUND).all()


def test_half_transparency_is_half_background() -> None:
    image = Image.new("RGBA", (1, 1), (0, 100, 200, 128))
    expected = [
        c * 128 / 255 + b * 127 / 255 for c, b in zip((0, 100, 200), BACKGROUND, strict=True)
    ]
    assert pixels(decode_image(encoded(image)))[0, 0] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_shows_the_background(kind: str) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 10, 10, 0, 0, 255])
    image.putpixel((0, 0), 2)
    read = pixels(decode_image(encoded(image, kind, transparency=1)))
    assert read[0, 0].tolist() == [0, 0, 255]
    assert read[3, 3].tolist() == list(BACKGROUND)


def test_cmyk_is_converted_to_what_was_printed() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow make red
    for kind in ("JPEG", "TIFF"):
        assert abs(pixels(decode_image(encoded(ink, kind))) - [255, 0, 0]).max() <= 2, kind


def test_lab_is_converted() -> None:
    grey = Image.new("LAB", (4, 4), (136, 128, 128))  # L* = 53.3 of 100: sRGB 127, by CIE 1976
    assert abs(pixels(decode_image(encoded(grey, "TIFF"))) - 127).max() <= 2


def test_one_bit_images_are_black_and_white() -> None:
    image = gradient().convert("1")
    assert (pixels(decode_image(encoded(image)))[..., 0] == np.asarray(image) * 255).all()


def test_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert abs(pixels(decode_image(data))[0, 0] - [255, 0, 0]).max() <= 3, kind


def test_signed_bytes_keep_their_order() -> None:
    values = np.array([[-128, 0, 127]], np.int8)
    assert pixels(decode_image(tiff(values, 8, 2)))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_is_turned_round_at_every_depth(dtype: type) -> None:
    top = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    values, kind = np.array([[0, top]], dtype), 3 if dtype is np.float32 else 1
    file = tiff(values, values.itemsize * 8, kind, {262: 0})
    assert pixels(decode_image(file))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("largest", "white"), [(4095, 4095), (1023, 1023), (3000, 65535)])
def test_the_number_of_bits_of_a_camera_is_honoured(largest: int, white: int) -> None:
    """MaxSampleValue: 2^n - 1 is a depth; another number is the brightest pixel that there is."""
    values = np.array([[0, 1000, 4095]], np.uint16)
    read = pixels(decode_image(tiff(values, 16, 1, {281: largest})))[0, :, 0]
    assert read.tolist() == (np.rint(values[0] / white * 255)).clip(0, 255).tolist()


def test_what_was_not_measured_does_not_darken_the_rest() -> None:
    field = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = pixels(decode_image(encoded(Image.fromarray(field), "TIFF")))
    field[0, 0] = -9999
    file = encoded(Image.fromarray(field), "TIFF", tiffinfo={42113: "-9999"})
    read = pixels(decode_image(file))
    assert (read[1:] == expected[1:]).all()
    assert read[0, 0].tolist() == [1] * 3  # as the darkest of the rest, 1 / 255


# Orientation


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = np.asarray(gradient())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    read = pixels(
        decode_image(encoded(stored, kind, exif=exif.tobytes(), **FAITHFUL.get(kind, {})))
    )
    assert read.shape == upright.shape
    assert abs(read - upright).max() <= (12 if kind == "JPEG" else 0)


def test_a_broken_exif_block_counts_as_none() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff\xff")
    assert decode_image(data).size == gradient().size


# What is refused


def refused(data: bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        decode_image(data, "pictures/a.jpg")
    assert caught.value.exit_code == 3
    assert caught.value.where == "pictures/a.jpg"
    assert len(str(caught.value)) <= 200
    assert "Traceback" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"hello", "unknown format"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
    ],
)
def test_what_is_no_image_is_refused_and_said_what_it_looks_like(data: bytes, named: str) -> None:
    assert named in refused(data).what


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_image_is_refused(kind: str) -> None:
    data = encoded(gradient(64, 64), kind)
    for length in (1, 8, len(data) // 4, len(data) // 2):
        refused(data[:length])


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(encoded(gradient(64, 64)))
    position = data.index(b"IDAT") + 20
    data[position] ^= 0xFF
    assert refused(bytes(data)).what == "a damaged image"


def test_postscript_called_jpg_never_reaches_an_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    fake = tmp_path / "gs"
    fake.write_text(f"#!/bin/sh\ntouch {ran}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert "PostScript" in refused(data).what
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "SGI", "PDF"])
def test_formats_outside_the_list_are_refused(kind: str) -> None:
    if kind not in Image.SAVE:
        Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    refused(encoded(gradient(), kind))


def test_a_header_that_declares_a_huge_image_is_refused_before_decoding() -> None:
    assert "more pixels than the limit" in refused(png(100_000, 100_000)).what
    assert "10000 x 10000 pixels" in refused(png(10_000, 10_000)).what


def test_the_pixel_limit_can_be_set() -> None:
    data = encoded(gradient(24, 16))
    assert decode_image(data, max_pixels=24 * 16).size == (24, 16)
    with pytest.raises(DataError, match="24 x 16 pixels is over the limit of 383"):
        decode_image(data, max_pixels=24 * 16 - 1)


def test_a_compressed_text_bomb_is_refused() -> None:
    bomb = zlib.compress(b"\0" * 200_000_000)
    chunk = (b"zTXt", b"k\0\0" + bomb)
    refused(png(8, 8, (chunk,) * 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (3, 5)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    assert decode_image(encoded(gradient(*size))).size == size


# Files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such image file \(.*none\.jpg\)"):
        read_image(tmp_path / "none.jpg")


def test_a_folder_is_refused_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    with pytest.raises(DataError, match="a folder where an image file should be"):
        read_image(tmp_path)
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.timeout(10)
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "fifo", "/dev/stdin"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, path: str) -> None:
    if path == "fifo":
        os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError):
        read_bytes(tmp_path / path)


def test_a_file_without_permission_is_named() -> None:
    with as_nobody() as folder:
        path = folder / "secret.png"
        path.write_bytes(encoded(gradient()))
        path.chmod(0)
        with pytest.raises(DataError, match=r"Permission denied \(.*secret\.png\)"):
            read_image(path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.truncate(257 * 2**20)
    with pytest.raises(DataError, match="over the limit"):
        read_image(path)


@pytest.mark.parametrize(
    "name", [b"a b.png", "漢字.png".encode(), b"\xff\xfe.png", b"new\nline.png", b"\x1b[31mred.png"]
)
def test_any_file_name_is_read_and_shown_safely(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(encoded(gradient()))
    assert read_image(path).size == gradient().size
    path.write_bytes(b"spoilt")
    with pytest.raises(DataError) as caught:
        read_image(path)
    (line,) = caught.value.lines()
    assert line.isprintable()
    line.encode("utf-8")


def test_a_nul_byte_in_a_name_is_refused() -> None:
    with pytest.raises(DataError, match="its name is not valid"):
        read_image("a\0b.png")


def test_image_names_are_known_by_their_ending_in_either_case() -> None:
    assert is_image_name("a.JPG")
    assert is_image_name("a.tar.jfif")
    assert not is_image_name("a.txt")
    assert not is_image_name("jpg")


def test_threads_that_decode_one_file_get_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(gradient(200, 150), "JPEG"))
    with ThreadPoolExecutor(4) as pool:
        images = set(pool.map(lambda _: read_image(path).tobytes(), range(40)))
    assert len(images) == 1


# Mutated files: whatever happens to the bytes, the outcome is an RGB image or a DataError.


def mutant(data: bytes, draw: random.Random) -> bytes:
    """Flip, cut, zero, repeat or insert a few bytes."""
    spoilt = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randrange(len(spoilt)), draw.randint(1, 64)
        match draw.randrange(5):
            case 0:
                spoilt[at] ^= 1 << draw.randrange(8)
            case 1:
                del spoilt[max(1, at) :]
            case 2:
                spoilt[at : at + length] = bytes(length)
            case 3:
                spoilt[at:at] = draw.randbytes(length)
            case 4:
                spoilt[at : at + length] = spoilt[at : at + length] * 2
    return bytes(spoilt)


def survive(kind: str, count: int) -> None:
    draw = random.Random(kind)
    image = gradient(48, 32)
    originals = [encoded(image, kind), encoded(image.convert("L"), kind)]
    if kind in {"PNG", "TIFF", "WEBP"}:
        originals.append(encoded(image.convert("RGBA"), kind))
    if kind == "TIFF":
        packed = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        originals += [encoded(image, kind, compression=compression) for compression in packed]
    for _ in range(count):
        data = mutant(draw.choice(originals), draw)
        with suppress(DataError):
            assert decode_image(data).mode == "RGB"


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_end_in_an_image_or_one_clear_error(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    survive(kind, 150)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_thousands_of_mutated_files_end_in_an_image_or_one_clear_error(kind: str) -> None:
    # In a process of its own: one that keeps freed memory, as a run does, takes another amount.
    code = (
        "import resource, sys\n"
        "from tests.files.test_images import survive\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "survive(sys.argv[1], 5000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, kind], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 2**20  # kilobytes: 1 GB


def test_a_refused_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (13_000, 13_000)).save(path)  # 169 million pixels in 20 kB
    code = (
        "import resource, sys\n"
        "from vtrain.errors import DataError\n"
        "from vtrain.files.images import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(sys.argv[1])\n"
        "except DataError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    message, grown = run.stdout.splitlines()
    assert "over the limit" in message
    assert int(grown) < 50_000  # kilobytes
    assert run.stderr == ""


# What is not read is named


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tiff(np.zeros((4, 4, 5), np.uint8), 8, 1, {259: 7}), "a TIFF of 5 bands of 8 bits"),
        (tiff(np.zeros((4, 4, 5), np.uint8), 5, 1), "a TIFF of 5 bands of 5 bits"),
        (tiff(np.zeros((4, 4), np.uint8), 8, 1, {259: 50001}), "a TIFF compressed as WebP"),
        (tiff(np.zeros((4, 4), np.uint8), 8, 1, {259: 34712}), "a TIFF compressed as JPEG 2000"),
        (b"II*\0" + b"\xff" * 40, "a damaged TIFF"),
        (b"\xff\xd8\xff\xc1\0\x11\x0c\0\x10\0\x10\x03" + b"\0" * 40, "a JPEG of 3 x 12 bits"),
        (b"\xff\xd8\xff\xc3\0\x0b\x10\0\x10\0\x10\1" + b"\0" * 9, "a lossless JPEG of 1 x 16 bits"),
        (b"\xff\x0a" + b"\0" * 20, "it looks like JPEG XL"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, "it looks like HEIC"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 20, "it looks like video"),
        (b"\0\0\0\x18ftypcrx " + b"\0" * 20, "it looks like a camera's raw file"),
        (b"\0" * 128 + b"DICM" + b"\0" * 20, "it looks like DICOM"),
        (b"\0" * 344 + b"n+1\0", "it looks like NIfTI"),
        (b"SIMPLE  =        T", "it looks like FITS"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(data: bytes, what: str) -> None:
    assert refused(data).what == f"not a readable image ({what})"


def test_every_cut_of_an_odd_file_is_one_line() -> None:
    for data in (tiff(np.zeros((4, 4, 5), np.uint8), 8, 1), encoded(gradient(), "JPEG2000")):
        for length in range(0, len(data), 5):
            with suppress(DataError):
                decode_image(data[:length], "x")


def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph() -> None:
    file = tiff(np.zeros((15, 20), np.uint8), 8, 1, {254: 1, 50706: 0x401})
    error = refused(file)
    assert "a preview of 20 x 15 pixels beside another image" in error.what
    assert error.where is not None


def test_a_jpeg_over_the_limit_is_read_at_half_its_size() -> None:
    data = encoded(gradient(96, 64), "JPEG", quality=95)
    read = decode_image(data, max_pixels=96 * 64 // 4)
    assert read.size == (48, 32)
    half = gradient(96, 64).resize((48, 32), Image.Resampling.BOX)
    assert abs(pixels(read) - np.asarray(half).astype(int)).max() <= 8  # and JPEG's own loss
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    data = encoded(gradient(96, 64), "JPEG", exif=turned.tobytes())
    assert decode_image(data, max_pixels=96 * 64 // 4).size == (32, 48)
    with pytest.raises(DataError, match=r"96 x 64 pixels is over the limit of 6,140"):
        decode_image(data, max_pixels=96 * 64 // 4 - 1)
    progressive = encoded(gradient(96, 64), "JPEG", progressive=True)
    with pytest.raises(DataError, match=r"over the limit of 3,072: scale it down first$"):
        decode_image(progressive, max_pixels=96 * 64 // 4)
    with pytest.raises(DataError, match=r"or save it as JPEG, of which 6,144 are read$"):
        decode_image(encoded(gradient(96, 64)), max_pixels=96 * 64 // 4)


def test_a_jpeg_2000_may_have_a_quarter_of_the_pixels() -> None:
    """A file of 829 bytes with 64 million of them took 1.2 GB."""
    data = encoded(gradient(24, 16), "JPEG2000")
    assert decode_image(data, max_pixels=4 * 24 * 16).size == (24, 16)
    with pytest.raises(DataError, match=r"24 x 16 pixels is over the limit of 383: scale it down"):
        decode_image(data, max_pixels=4 * 24 * 16 - 1)


def test_a_side_that_cannot_be_scaled_in_bounded_memory_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 x 1000001 pixels has a side over the limit"):
        decode_image(png(1, 1_000_001))


def test_an_image_in_memory_is_treated_as_its_file() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    alpha = gradient().convert("RGBA")
    alpha.putalpha(128)
    palette = gradient().quantize(8)
    deep = Image.fromarray(np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, 0))
    real = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    for data in (
        encoded(gradient(), "JPEG", exif=exif.tobytes()),
        encoded(gradient(), "WEBP", exif=exif.tobytes()),
        encoded(alpha),
        encoded(palette, "PNG", transparency=3),
        encoded(deep),
        encoded(deep, "TIFF"),
        encoded(real, "TIFF"),
        encoded(Image.new("LAB", (4, 4), (136, 128, 128)), "TIFF"),
        encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"),
    ):
        assert (pixels(rgb(Image.open(io.BytesIO(data)))) == pixels(decode_image(data))).all()


@pytest.mark.parametrize("nodata", ["-9999", "70000", "0.5", "-1e40", "none"])
def test_a_value_that_no_sample_can_have_means_no_missing_data(nodata: str) -> None:
    """-9999 of unsigned numbers would wrap around to 55537, which is a measurement."""
    field = np.array([[0, 55537], [1, 65535]], np.uint16)
    plain, declared = (
        pixels(decode_image(encoded(Image.fromarray(field), "TIFF", **more)))
        for more in ({}, {"tiffinfo": {42113: nodata}})
    )
    assert np.array_equal(plain, declared)


@pytest.mark.parametrize(
    "nodata", ["-32768", "-32768.0", "-3.4028234663852886e+38", "-3.40282347e+38"]
)
def test_the_usual_values_of_missing_data_are_known(nodata: str) -> None:
    dtype = np.int32 if nodata.startswith("-32768") else np.float32
    field = np.array([[float(nodata), 100], [300, 500]], dtype)
    without = np.array([[100, 100], [300, 500]], dtype)
    found, expected = (
        pixels(decode_image(encoded(Image.fromarray(one), "TIFF", tiffinfo={42113: nodata})))
        for one in (field, without)
    )
    assert np.array_equal(found, expected)
