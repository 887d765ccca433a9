"""HEIC, which a package beside Pillow reads, and lines that libraries would print."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.files.image_table import PHOTO, STORED, bytes_of, tiff
from vtrain.data.datasets.folder import ImageFolder
from vtrain.errors import DataError
from vtrain.files import image_readers
from vtrain.files.image_readers import heic_formats, hush_pillow, reads_heic
from vtrain.files.images import decode_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
STAND_IN = """
from PIL import Image, ImageFile

class Heif(ImageFile.ImageFile):
    format = "HEIF"
    def _open(self):
        if len(self.fp.read()) < 30:
            raise SyntaxError("cut off")
        self._mode, self._size = "RGB", (3, 2)
        self.im = Image.new("RGB", (3, 2), (9, 8, 7)).im

def register_heif_opener():
    Image.register_open("HEIF", Heif, lambda start: start[4:12] == b"ftypheic")
"""


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    heic_formats.cache_clear()
    yield
    heic_formats.cache_clear()
    for registry in (Image.OPEN, Image.EXTENSION):
        registry.pop("HEIF", None)
    if "HEIF" in Image.ID:
        Image.ID.remove("HEIF")


def test_without_its_reader_heic_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_readers, "reads_heic", lambda: False)
    with pytest.raises(DataError) as caught:
        decode_image(HEIC + bytes(20))
    assert "it looks like HEIC" in caught.value.what
    assert caught.value.hint == "pip install pillow-heif, or save it as JPEG or PNG"


def test_its_reader_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pillow_heif.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    assert reads_heic()
    assert np.asarray(decode_image(HEIC + bytes(20))).tolist() == [[[9, 8, 7]] * 3] * 2
    with pytest.raises(DataError, match="a damaged image: replace or remove it"):
        decode_image(HEIC)
    # Of nothing else is it asked.
    with pytest.raises(DataError, match="video"):
        decode_image(b"\0\0\0\x18ftypmp42" + bytes(20))
    del sys.modules["pillow_heif"]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_heic_photograph_is_near_what_it_was_made_from(orientation: int) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    image = Image.fromarray(bytes_of(STORED[orientation](PHOTO)))
    image.save(file, "HEIF", quality=95, chroma=444, exif=exif.tobytes())
    read = np.asarray(decode_image(file.getvalue())).astype(float)
    assert abs(read - PHOTO).mean() <= 2
    with pytest.raises(DataError):
        decode_image(file.getvalue()[:400])


def test_a_folder_of_heic_says_what_reads_it(tmp_path: Path) -> None:
    if reads_heic():
        pytest.skip("here they are images")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.heic").write_bytes(HEIC)
    with pytest.raises(DataError) as caught:
        ImageFolder(root=tmp_path).check_training(("cat", "dog"))
    assert ".heic 2" in str(caught.value)
    assert caught.value.hint == (
        "pip install pillow-heif, which reads HEIC; or save them as .jpg or .png"
    )


@pytest.mark.parametrize(
    ("ending", "advice"),
    [
        ("NEF", "develop the camera's raw files"),
        ("dcm", "save what is in them"),
        ("nii.gz", "save"),
    ],
)
def test_a_folder_of_what_is_not_read_says_what_to_do(
    tmp_path: Path, ending: str, advice: str
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"1.{ending}").touch()
    with pytest.raises(DataError) as caught:
        ImageFolder(root=tmp_path).check_training(("cat", "dog"))
    assert f".{ending.lower().rpartition('.')[2]} 2" in str(caught.value)
    assert str(caught.value.hint).startswith(advice)


def test_libtiff_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    hush_pillow()
    spoilt = tiff(bytes_of(PHOTO), {259: 8, 262: 2})  # not a stream of deflate
    with pytest.raises(DataError, match="a damaged image"):
        decode_image(spoilt)
    assert capfd.readouterr() == ("", "")
