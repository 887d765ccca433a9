"""Images of any number of bands, against the arrays that their files were made from."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tests.files.image_table import STORED, npy
from vtrain.errors import DataError
from vtrain.files.images import decode_image
from vtrain.files.lazy_image import Bands, DeepGrey, samples_of
from vtrain.files.stacks import MOST_BANDS
from vtrain.files.tiff_bands import band_tags, tiff_bands

Array = NDArray[Any]
DRAW = np.random.default_rng(0)


def packed(rows: Array, how: int) -> bytes:
    """Pack rows of samples as a strip or a tile, by zlib or by what Pillow writes for grey."""
    content = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    if how in {1, 8}:
        return content.tobytes() if how == 1 else zlib.compress(content.tobytes())
    name = {5: "tiff_lzw", 32773: "packbits", 34925: "lzma", 50000: "zstd"}[how]
    file = io.BytesIO()
    Image.fromarray(content).save(file, "TIFF", compression=name, strip_size=content.size)
    with Image.open(file) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        (start,), (length,) = tags[273], tags[279]
    return file.getvalue()[start : start + length]


def differences(rows: Array, predictor: int) -> Array:
    """What a predictor makes of a strip (rows, columns, bands); the inverse is under test."""
    if predictor == 1:
        return rows
    if predictor == 2:
        before = np.concatenate([np.zeros_like(rows[:, :1]), rows[:, :-1]], 1)
        return (rows - before).astype(rows.dtype)
    size = rows.dtype.itemsize  # Adobe, "TIFF Technical Note 3", by loops
    result = np.zeros((len(rows), rows[0].size * size), np.uint8)
    for r, row in enumerate(rows):
        big = row.astype(row.dtype.newbyteorder(">")).reshape(-1)
        planes = np.frombuffer(big.tobytes(), np.uint8).reshape(-1, size).T.reshape(-1)
        bands = rows.shape[2]
        for i in range(len(planes)):
            result[r, i] = int(planes[i]) - (int(planes[i - bands]) if i >= bands else 0) & 255
    return result


def tiff(
    samples: Array,
    *,
    rows: int = 7,
    tile: int = 0,
    apart: bool = False,
    how: int = 1,
    predictor: int = 1,
    more: dict[int, int] | None = None,
) -> bytes:
    """A TIFF by hand, in the byte order of the samples (H, W, C), in strips or square tiles."""
    height, width, count = samples.shape
    order = ">" if samples.dtype.byteorder == ">" else "<"
    across, down = (tile, tile) if tile else (width, rows)
    pieces: list[bytes] = []
    for band in range(count) if apart else [slice(None)]:
        one = samples[..., band].reshape(height, width, -1)
        for top in range(0, height, down):
            for left in range(0, width, across):
                part = one[top : top + down, left : left + across]
                if tile:
                    filled = np.full((tile, tile, part.shape[2]), 7, samples.dtype)
                    filled[: part.shape[0], : part.shape[1]] = part
                    part = filled
                pieces.append(packed(differences(np.ascontiguousarray(part), predictor), how))
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    starts = 8 + np.cumsum([0, *map(len, pieces)])
    tags: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [8 * samples.itemsize], 259: [how], 262: [1],
        277: [count], 284: [2 if apart else 1], 317: [predictor], 339: [kind],
    }  # fmt: skip
    tags |= {322: [tile], 323: [tile], 324: [], 325: []} if tile else {278: [rows]}
    tags[324 if tile else 273] = starts[:-1].tolist()
    tags[325 if tile else 279] = [len(piece) for piece in pieces]
    tags |= {tag: [value] for tag, value in (more or {}).items()}
    body, entries = b"".join(pieces), b""
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        where = content if len(values) == 1 else struct.pack(f"{order}I", 8 + len(body))
        body += content if len(values) != 1 else b""
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + where
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def drawn(dtype: str, bands: int = 5) -> Array:
    """Random samples over the whole range of a type. Shape: (20, 19, bands)."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return DRAW.normal(size=(20, 19, bands)).astype(kind)
    limits = np.iinfo(kind)
    whole = DRAW.integers(limits.min, limits.max, (20, 19, bands), kind.newbyteorder("="), True)
    return whole.astype(kind)


def bands_in(data: bytes) -> Array:
    tags = band_tags(data)
    assert tags is not None
    return tiff_bands(data, tags)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8"])
@pytest.mark.parametrize("layout", [{}, {"tile": 16}, {"apart": True}, {"apart": True, "tile": 16}])
def test_the_bands_of_a_tiff_are_the_samples_of_any_type_and_layout(
    dtype: str, layout: dict[str, Any]
) -> None:
    samples = drawn(dtype)
    assert np.array_equal(bands_in(tiff(samples, **layout)), samples)


@pytest.mark.parametrize("how", [1, 5, 8, 32773, 34925, 50000])
@pytest.mark.parametrize("predictor", [1, 2])
def test_they_are_unpacked_from_every_codec(how: int, predictor: int) -> None:
    samples = drawn("<u2", 4)
    for layout in ({}, {"tile": 16}, {"apart": True}):
        file = tiff(samples, how=how, predictor=predictor, **layout)  # type: ignore[arg-type]
        assert np.array_equal(bands_in(file), samples)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_the_predictor_of_floats_is_undone(dtype: str) -> None:
    samples = drawn(dtype, 3)
    assert np.array_equal(bands_in(tiff(samples, how=8, predictor=3)), samples)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_stand_upright(orientation: int) -> None:
    samples = drawn("u1")
    stored = np.ascontiguousarray(STORED[orientation](samples))  # type: ignore[arg-type]
    image = decode_image(tiff(stored, more={274: orientation}))
    assert isinstance(image, Bands)
    assert image.size == (19, 20)
    assert np.array_equal(image.ranged(), samples)


def test_pillow_reads_of_a_band_what_is_read_of_all() -> None:
    samples = drawn("<u2")
    for band in range(5):
        alone = Image.open(io.BytesIO(tiff(samples[..., band : band + 1])))
        assert np.array_equal(np.asarray(alone), bands_in(tiff(samples))[..., band])


def test_a_picture_keeps_its_further_bands_beside_its_colours() -> None:
    samples = drawn("u1", 4)  # as of a camera that also sees infrared
    image = decode_image(tiff(samples, more={262: 2, 338: 0}))
    assert isinstance(image, Bands)
    assert np.array_equal(np.asarray(image), samples[..., :3])
    assert np.array_equal(image.ranged(), samples)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_with_alpha_keeps_it(mode: str) -> None:
    count = len(mode)
    given = Image.fromarray(drawn("u1", count), mode)
    file = io.BytesIO()
    given.save(file, "PNG")
    image = decode_image(file.getvalue())
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(), np.asarray(given))
    page = Image.new("RGBA", given.size, "white")
    want = Image.alpha_composite(page, given.convert("RGBA")).convert("RGB")
    assert np.array_equal(np.asarray(image), np.asarray(want))


def test_alpha_stands_upright_with_its_picture() -> None:
    samples, file, exif = drawn("u1", 4), io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(samples))).save(file, "PNG", exif=exif.tobytes())
    image = decode_image(file.getvalue())
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(), samples)


@pytest.mark.parametrize("bands", [2, 5, 13])
def test_an_array_has_its_bands_last_or_first(bands: int) -> None:
    samples = drawn("u1", bands)
    for given in (samples, samples.transpose(2, 0, 1), np.asfortranarray(samples)):
        image = decode_image(npy(given))
        assert isinstance(image, Bands)
        assert (image.size, image.count) == ((19, 20), bands)
        assert np.array_equal(image.ranged(), samples)


def test_of_axes_of_one_length_the_last_has_the_bands() -> None:
    cube = DRAW.integers(0, 256, (4, 4, 4), np.uint8)
    image = decode_image(npy(cube))
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(), cube)


def test_an_array_of_one_band_is_grey() -> None:
    samples = drawn("u1", 1)
    for given in (samples, samples[..., 0], samples.transpose(2, 0, 1)):
        assert np.array_equal(np.asarray(decode_image(npy(given))), samples.repeat(3, 2))
    deep = decode_image(npy(drawn("<u2", 1)))
    assert isinstance(deep, DeepGrey)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("<u2", 0, 65535), ("<i2", -32768, 32767), ("i1", -128, 127), ("<u4", 0, 2**32 - 1)],
)
def test_whole_numbers_go_from_the_first_to_the_last_of_their_type(
    dtype: str, low: int, high: int
) -> None:
    samples = drawn(dtype)
    want = np.rint((samples.astype(np.float64) - low) * 255 / (high - low))
    for file in (npy(samples), tiff(samples)):
        image = decode_image(file)
        assert isinstance(image, Bands)
        assert np.abs(image.ranged() - want).max() <= 1  # float32 and float64 round elsewhere


def test_floats_and_truth_values_have_ranges_too() -> None:
    shares = DRAW.random((8, 9, 2)).astype(np.float32)
    shares[0, 0, 0] = np.nan
    image = decode_image(npy(shares))
    assert isinstance(image, Bands)
    assert np.abs(image.ranged() - np.nan_to_num(shares) * 255).max() <= 0.5 + 1e-4
    mask = DRAW.random((8, 9, 2)) < 0.5
    image = decode_image(npy(mask))
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(), mask * np.uint8(255))


def test_people_see_the_first_three_bands_or_the_first() -> None:
    samples = drawn("u1")
    assert np.array_equal(np.asarray(decode_image(npy(samples))), samples[..., :3])
    two = np.asarray(decode_image(npy(samples[..., :2])))
    assert np.array_equal(two, samples[..., :1].repeat(3, 2))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("harm").touch, ())


def header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (npy(np.zeros((4, 4), np.complex64)), "array of complex64"),
        (npy(np.zeros(5)), "shape (5,)"),
        (npy(np.zeros((2, 3, 4, 5))), "shape (2, 3, 4, 5)"),
        (npy(np.zeros((0, 4, 3))), "shape (0, 4, 3)"),
        (npy(np.zeros((2000, 3000, MOST_BANDS + 1), np.uint8)[:1030, :1030]), "shape"),
        (npy(np.zeros((4, 5, 3)))[:-1], "damaged NumPy array"),
        (
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 9999999)}"),
            "damaged",
        ),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (4, 4)}"), "array of object"),
        (header("__import__('os').abort()"), "damaged NumPy array"),
        (b"\x93NUMPY\7\0" + bytes(20), "damaged NumPy array"),
        (b"\x93NUMPY", "damaged NumPy array"),
    ],
)
def test_an_array_that_is_no_image_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(DataError) as caught:
        decode_image(data, "a.npy")
    assert what in str(caught.value)
    assert "a.npy" in str(caught.value)


def test_pickled_arrays_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.save(file, np.array([[Harmful()]], object), allow_pickle=True)
    with pytest.raises(DataError, match="array of object"):
        decode_image(file.getvalue(), "a.npy")
    assert not Path("harm").exists()


def test_what_would_take_gigabytes_is_refused_by_its_head() -> None:
    huge = tiff(drawn("u1"), more={256: 60_000, 257: 60_000})
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (9000, 9000)}"
    for data in (huge, header(text) + bytes(81_000_000)):
        with pytest.raises(DataError, match="over the limit"):
            decode_image(data, "a")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (tiff(drawn("<f8", 8)), 20 * 19 * 8 * 8),
        (tiff(drawn("u1", 5), tile=16), 32 * 32 * 5),
        (tiff(drawn("u1", 5), apart=True, more={322: 9000, 323: 9000}), 9000 * 9000 * 5),
        # A picture to Pillow, which has its bands beside its colours.
        (tiff(drawn("u1", 4), more={262: 2, 338: 0}), 20 * 19 * 4),
    ],
    ids=["deep", "tiles", "tiles beyond the image", "a picture"],
)
def test_bytes_are_counted_before_they_are_unpacked(data: bytes, size: int) -> None:

    def bands(most: int) -> Array:
        image = decode_image(data, "a.tif", max_bytes=most)
        assert isinstance(image, Bands)
        return image.ranged()

    for most in (size - 1, 100):
        with pytest.raises(DataError, match=r"over the limit \(a\.tif\)"):
            bands(most)
    if size < 100_000:
        assert bands(size).shape[:2] == (20, 19)


def test_bytes_stay_as_they_are_whatever_is_black_and_white() -> None:
    samples = drawn("u1", 4)
    image = decode_image(tiff(samples, more={338: 0}))
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(0, 10_000), samples)


def test_a_damaged_tiff_of_bands_is_refused() -> None:
    whole = tiff(drawn("<u2"), how=8)
    for data in (
        whole[:20] + bytes(300) + whole[320:],  # its first strip
        tiff(drawn("<u2"), more={278: 3}),  # fewer strips than rows ask for
        tiff(drawn("<u2"), more={257: 99}),
    ):
        with pytest.raises(DataError, match="damaged"):
            decode_image(data, "a.tif")


def test_what_is_no_plain_tiff_of_bands_is_left_to_others() -> None:
    samples = drawn("<u2")
    for more in ({50706: 1}, {262: 32803}, {254: 1}, {259: 7}, {258: 12}):
        assert band_tags(tiff(samples, more=more)) is None
    assert samples_of(Image.new("L", (2, 3))).shape == (3, 2, 1)
