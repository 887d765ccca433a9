import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin

from vtrain.data.datasets.samples import FileSamples, Paths
from vtrain.data.inspect.scan import look
from vtrain.data.loading.cache import as_array
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.data.unused import Unused
from vtrain.errors import DataError
from vtrain.files import images
from vtrain.files.images import decode_image, read_image, rgb
from vtrain.files.large_jpeg import LARGE, LargeJpeg


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real megapixel would take each test a tenth of a second."""
    monkeypatch.setattr(images, "LARGE", 10_000)


def photo(width: int, height: int, **options: object) -> bytes:
    """A JPEG of smooth shapes and a sharp corner, different in every direction."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 0, 0), (0, 0, width // 3, height // 5))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.int() - other.int()).abs().float().mean())


def in_full(data: bytes) -> Image.Image:
    """The upright image as Pillow alone decodes it."""
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    return ImageOps.exif_transpose(image).convert("RGB")


def test_asked_for_its_pixels_it_is_the_whole_image() -> None:
    data = photo(301, 203)
    image = decode_image(data)
    assert isinstance(image, LargeJpeg)
    assert (image.size, image.mode) == ((301, 203), "RGB")
    assert np.array_equal(np.asarray(image), np.asarray(in_full(data)))
    part = decode_image(data).crop((20, 30, 50, 90))
    assert np.array_equal(np.asarray(part), np.asarray(in_full(data).crop((20, 30, 50, 90))))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_scale_shows_the_same_place(factor: int, orientation: int) -> None:
    """No side is a multiple of 8: pixels beyond the end come last, or first once it is turned."""
    data = photo(45 * 8 + 3, 31 * 8 + 5, exif=turned(orientation))
    image = decode_image(data)
    assert isinstance(image, LargeJpeg)
    assert image.size == in_full(data).size
    smaller, whole = image.reduced(factor)
    assert smaller.size == tuple(-(-side // factor) for side in image.size)
    assert (whole[2] - whole[0], whole[3] - whole[1]) == tuple(s / factor for s in image.size)
    got = smaller.resize((20, 14), Image.Resampling.BICUBIC, whole)
    want = in_full(data).resize((20, 14), Image.Resampling.BICUBIC)
    levels = np.asarray(got).astype(int) - np.asarray(want)
    assert abs(levels).mean() < 1
    # Placed as if the pixels beyond the end belonged to it, it would be further off.
    shifted = smaller.resize((20, 14), Image.Resampling.BICUBIC)
    assert abs(np.asarray(shifted).astype(int) - np.asarray(want)).mean() > abs(levels).mean()


@pytest.mark.parametrize(
    ("how", "factor"),
    [
        ({"resize": "squash"}, 4),  # 400 x 300 to 32 x 32, and twice as many pixels must be left
        ({"resize": "crop"}, 4),  # the shorter side to 32
        ({"resize": "crop", "crop_fraction": 0.5}, 2),  # to 64
        ({"resize": "letterbox"}, 4),  # 400 to 32
        ({"reducing_gap": 1.0}, 8),
        ({"reducing_gap": 4.0}, 2),
        ({"reducing_gap": 5.0}, 1),
        ({"reducing_gap": None}, 1),
        ({"interpolation": "nearest"}, 1),
    ],
)
@pytest.mark.parametrize("subsampling", [0, 2])
def test_evaluation_asks_for_no_more_pixels_than_it_needs(
    how: dict[str, object], factor: int, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [1]
    reduced = LargeJpeg.reduced

    def noting(self: LargeJpeg, by: int) -> object:
        asked.append(by)
        return reduced(self, by)

    monkeypatch.setattr(LargeJpeg, "reduced", noting)
    data = photo(400, 300, subsampling=subsampling)
    preprocess = Preprocess(32, **how)
    got, want = preprocess(decode_image(data)), preprocess(in_full(data))
    assert max(asked) == factor
    assert apart(got, want) < 1
    assert factor > 1 or torch.equal(got, want)


def test_a_random_crop_is_of_the_same_place_at_any_scale() -> None:
    data = photo(1003, 701)
    crop = TrainGeometry(Preprocess(24), 3, (0.08, 1.0), (3 / 4, 4 / 3))
    for index in range(12):
        assert apart(crop(decode_image(data), index, 5), crop(in_full(data), index, 5)) < 1
        assert torch.equal(crop(decode_image(data), index, 5), crop(decode_image(data), index, 5))


def test_what_is_not_scaled_much_keeps_its_bits() -> None:
    data = photo(120, 100)
    for geometry in (Preprocess(32), Preprocess(120), Preprocess(200)):
        assert torch.equal(geometry(decode_image(data)), geometry(in_full(data)))


def test_a_jpeg_below_a_megapixel_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE", LARGE)
    assert LARGE == 1_000_000
    assert not isinstance(decode_image(photo(400, 300)), LargeJpeg)
    monkeypatch.setattr(images, "LARGE", 400 * 300)
    assert isinstance(decode_image(photo(400, 300)), LargeJpeg)
    assert not isinstance(decode_image(photo(400, 299)), LargeJpeg)


def test_what_is_over_the_limit_of_pixels_is_halved_first() -> None:
    data = photo(801, 601, exif=turned(6))
    image = decode_image(data, max_pixels=801 * 601 // 2)
    assert isinstance(image, LargeJpeg)
    assert image.size == (301, 401)
    assert np.asarray(image).shape == (401, 301, 3)
    for factor, size in ((2, (151, 201)), (4, (76, 101)), (8, (76, 101))):  # an eighth is the least
        smaller, whole = image.reduced(factor)
        assert smaller.size == size
        got = smaller.resize((20, 25), Image.Resampling.BICUBIC, whole)
        want = in_full(data).resize((20, 25), Image.Resampling.BICUBIC)
        assert abs(np.asarray(got).astype(int) - np.asarray(want)).mean() < 1


def lossless(width: int, height: int) -> bytes:
    """A lossless JPEG of one grey by hand: every difference is 0, which is the one code, a 0."""
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    table = bytes([0, 1, *[0] * 15, 0])
    scan = bytes([1, 1, 0, 1, 0, 0])  # the predictor to the left
    parts = [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    head = b"".join(struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in parts)
    return b"\xff\xd8" + head + bytes(-(-width * height // 8)) + b"\xff\xd9"


def test_a_lossless_jpeg_which_the_library_cannot_scale_is_decoded_in_full() -> None:
    image = decode_image(lossless(200, 150))
    assert not isinstance(image, LargeJpeg)
    assert image.size == (200, 150)
    assert set(np.asarray(image).ravel().tolist()) == {128}


def test_an_opened_file_is_treated_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo(400, 300, exif=turned(8)))
    preprocess = Preprocess(32)
    want = preprocess(read_image(path))
    with Image.open(path) as image:
        assert torch.equal(preprocess(rgb(image)), want)
    assert torch.equal(preprocess(rgb(read_image(path))), want)
    with Image.open(path) as image:  # who asked Pillow for another scale gets it
        image.draft("RGB", (100, 75))
        assert rgb(image).size == (75, 100)


def test_damage_is_said_when_it_is_decoded_and_by_a_scan(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo(400, 300)[:4000])
    for use in (Preprocess(32), Preprocess(300), np.asarray, LargeJpeg.load):
        with pytest.raises(DataError, match=r"a damaged image \(.*a\.jpg\): replace or remove it"):
            use(read_image(path))
    samples = FileSamples(tmp_path, Paths(["a.jpg"]), torch.zeros(1, dtype=torch.int64))
    assert look(samples, 0).problem == "a damaged image"


def test_large_jpegs_are_not_kept_in_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Crops of kept pixels would not have the bits of crops of smaller scales."""
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(photo(400, 300))
    samples = FileSamples(tmp_path, Paths(["0.jpg", "1.jpg", "2.jpg"]), torch.zeros(3).long())
    crop = TrainGeometry(Preprocess(32), 0, (0.1, 1.0), (1.0, 1.0))
    assert as_array(samples, "ram", crop, Unused()) is samples
    assert "a large JPEG is decoded as it is needed" in caplog.text
    in_full = TrainGeometry(Preprocess(32, reducing_gap=None), 0, (0.1, 1.0), (1.0, 1.0))
    assert as_array(samples, "ram", in_full, Unused()) is not samples


def test_what_was_stored_before_there_was_a_key_is_decoded_in_full() -> None:
    stored = Preprocess(32).to_dict()
    assert stored.pop("reducing_gap") == 2
    old = Preprocess.from_dict(stored)
    assert old.reducing_gap is None
    data = photo(400, 300)
    assert torch.equal(old(decode_image(data)), old(in_full(data)))
