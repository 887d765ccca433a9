"""Further pages, frames and channels of image files, and what only looks like them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.files.image_table import npy, tiff
from tests.files.test_images import encoded
from vtrain.files.images import decode_image
from vtrain.files.lazy_image import Bands
from vtrain.files.surplus import Surplus, surplus_of

SMALLER, MASK, PAGE = 1, 4, 2
"""Values of NewSubfileType."""


def frames(kind: str, count: int = 3) -> bytes:
    pages = [Image.new("RGB", (6, 6), (50 * n, 0, 0)) for n in range(count)]
    return encoded(pages[0], kind, save_all=True, append_images=pages[1:])


def pages(*kinds: int, order: str = "<", circle: bool = False) -> bytes:
    """A TIFF of grey pages by hand, each with a NewSubfileType; in a circle it has no end."""
    file = io.BytesIO()
    file.write(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8))
    for number, kind in enumerate(kinds):
        start = file.tell()
        tags = {254: kind, 256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 278: 4, 279: 16}
        tags[273] = start + 2 + 12 * 10 + 4
        is_last = number == len(kinds) - 1
        following = (8 if circle else 0) if is_last else tags[273] + 16
        entries = b"".join(struct.pack(f"{order}HHII", t, 4, 1, tags[t]) for t in sorted(tags))
        file.write(struct.pack(f"{order}H", len(tags)) + entries)
        file.write(struct.pack(f"{order}I", following) + bytes(range(16)))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF"])
def test_files_of_several_pictures_are_told(kind: str) -> None:
    assert surplus_of(decode_image(frames(kind)), 3) == Surplus.PAGES
    assert surplus_of(decode_image(frames(kind, count=1)), 3) == Surplus.NONE


def test_of_a_telephone_s_jpeg_the_second_picture_is_the_map_of_the_first() -> None:
    assert surplus_of(decode_image(frames("MPO")), 3) == Surplus.NONE


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((0,), Surplus.NONE),
        ((0, 0), Surplus.PAGES),
        ((PAGE, PAGE), Surplus.PAGES),
        ((0, SMALLER, SMALLER), Surplus.NONE),
        ((0, MASK, SMALLER, SMALLER | MASK), Surplus.NONE),
        ((0, SMALLER, 0), Surplus.PAGES),
    ],
)
def test_smaller_versions_and_masks_of_a_page_are_no_other_pages(
    kinds: tuple[int, ...], expected: Surplus, order: str
) -> None:
    """As overviews of maps and pyramids of slides are stored."""
    assert surplus_of(decode_image(pages(*kinds, order=order)), 3) == expected


def test_pages_that_lead_in_a_circle_come_to_an_end() -> None:
    assert surplus_of(decode_image(pages(0, SMALLER, circle=True)), 3) == Surplus.NONE


def test_pages_of_what_pillow_does_not_read_count_too() -> None:
    """The first of two pages has 5 bands: a stack, whose directory says that there is another."""
    data = tiff(np.zeros((4, 4, 5), np.uint8))
    grey = tiff(np.zeros((4, 4), np.uint8))
    # The second page's tags are those of the other file, whose samples are as good as its own.
    own, other = (len(d) - 4 for d in (data, grey))
    directory = struct.unpack_from("<I", grey, 4)[0]
    joined = data[:own] + struct.pack("<I", len(data)) + grey[directory : other + 4]
    image = decode_image(joined)
    assert surplus_of(image, 5) == Surplus.PAGES
    assert surplus_of(decode_image(data), 5) == Surplus.NONE


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_file_that_ends_early_behind_its_first_page_has_one(cut: int) -> None:
    data = pages(0, 0)
    second = struct.unpack_from("<I", data, 8 + 2 + 120)[0]
    assert surplus_of(decode_image(data[: second + 20 - min(cut, 18)]), 3) == Surplus.NONE


def test_channels_beyond_those_that_are_used_are_told() -> None:
    alpha = decode_image(encoded(Image.new("RGBA", (4, 4))))
    assert surplus_of(alpha, 3) == Surplus.CHANNELS
    assert surplus_of(alpha, 4) == Surplus.NONE
    assert surplus_of(decode_image(encoded(Image.new("RGB", (4, 4)))), 3) == Surplus.NONE
    assert surplus_of(decode_image(npy(np.zeros((4, 4, 7), np.uint8))), 7) == Surplus.NONE


def test_the_second_of_two_bands_is_told_or_used() -> None:
    """Pillow shows the first of two bands of 8 bits, and says nothing of the second."""
    bands = np.random.default_rng(0).integers(0, 256, (9, 8, 2), np.uint8)
    file = encoded(Image.fromarray(bands, "LA"), "TIFF")
    # Tag 338 calls the second band alpha; 0 says nothing of what it is.
    alpha, plain = struct.pack("<HHIH", 338, 3, 1, 2), struct.pack("<HHIH", 338, 3, 1, 0)
    assert file.count(alpha) == 1
    image = decode_image(file.replace(alpha, plain))
    assert np.array_equal(np.asarray(image)[..., 0], bands[..., 0])
    assert surplus_of(image, 3) == Surplus.CHANNELS
    assert surplus_of(image, 2) == Surplus.NONE
    assert isinstance(image, Bands)
    assert np.array_equal(image.ranged(), bands)
