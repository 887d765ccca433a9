import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from vtrain.explain.draw import COLOURS, OPACITY
from vtrain.explain.small import overlaid


def test_each_pixel_is_the_blend_of_grey_and_the_colour_of_its_cell() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    values = rng.random((6, 8)).astype(np.float32)
    ours = np.asarray(overlaid(image, (0, 0, 8, 6), values, 100), float)
    grey = 127.5 + (np.asarray(image.convert("L"), float) - 127.5) / 2  # half its contrast
    colours = mpl.colormaps[COLOURS]
    for y in range(6):
        for x in range(8):
            share = (values[y, x] - values.min()) / np.ptp(values)
            colour = 255 * np.array(colours(share)[:3])
            expected = (1 - OPACITY) * grey[y, x] + OPACITY * colour
            assert ours[y, x] == pytest.approx(expected, abs=2.5)


def test_the_hottest_place_lies_where_it_is_in_a_box_that_was_cropped() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 3] = 1
    image = Image.new("RGB", (800, 400))
    drawn = np.asarray(overlaid(image, (200, 0, 600, 400), values, 80), float)  # (40, 80)
    assert drawn.shape == (40, 80, 3)
    yellow = drawn[..., 0] + drawn[..., 1] - 2 * drawn[..., 2]
    y, x = np.unravel_index(yellow.argmax(), yellow.shape)
    assert 10 <= y < 20
    assert 50 <= x < 60
    outside = drawn[:, [*range(20), *range(60, 80)]]
    assert np.ptp(outside, axis=(0, 1, 2)) <= 1, "the model did not see it"


@pytest.mark.parametrize("box", [(-3, -3, 13, 13), (2.4, 0, 2.6, 10), (0, 0, 10, 10)])
def test_nothing_in_a_map_or_beyond_the_border_is_no_error(box: tuple[float, ...]) -> None:
    drawn = overlaid(Image.new("RGB", (10, 10), "white"), box, np.zeros((2, 2), np.float32), 64)
    assert drawn.size == (10, 10)


def test_a_flat_map_looks_flat() -> None:
    values = np.array([[0.5, 0.5], [0.5, np.nextafter(0.5, 1)]], np.float32)
    drawn = np.asarray(overlaid(Image.new("RGB", (8, 8)), (0, 0, 8, 8), values, 8), int)
    assert np.ptp(drawn, axis=(0, 1)).max() <= 1
