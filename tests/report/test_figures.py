import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tests.report.cases import CASES
from vtrain.report.calibration import reliability_bins
from vtrain.report.figures import (
    MAX_POINTS,
    Series,
    curves,
    histogram,
    matrix_picture,
    reliability,
    thinned,
)
from vtrain.report.scores import Scores
from vtrain.report.thumbnails import SIDE, thumbnail, thumbnails


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("points", [0, 1, 2, 1000])
def test_a_figure_is_one_svg_in_the_colours_of_the_page(points: int) -> None:
    series = [Series(range(points), range(points)), Series([0], [0])]
    svg = curves("a", series, "step", "loss")
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "currentColor" in svg
    assert "var(--series-1)" in svg
    colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert colours <= {"#ffffff"}
    assert "<style" not in svg
    assert "font-family" not in svg
    assert len(svg) < 40_000


def test_a_figure_is_the_same_every_time() -> None:
    series = [Series([0, 1], [1, 2])]
    assert curves("a", series, "x", "y") == curves("a", series, "x", "y")


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_a_reliability_diagram_is_drawn_of_anything(scores: Scores) -> None:
    ET.fromstring(reliability(reliability_bins(scores.confidence, scores.correct)))


def test_a_histogram_is_drawn_of_equal_values() -> None:
    ET.fromstring(histogram("h", np.full(5, 3), "images", "classes"))


def test_a_thinned_curve_keeps_its_ends() -> None:
    x, y = thinned(range(10_000), range(10_000))
    assert len(x) == MAX_POINTS
    assert (x[0], x[-1], y[-1]) == (0, 9999, 9999)


def test_a_matrix_is_a_pixel_a_cell_brighter_with_more() -> None:
    matrix = np.array([[0, 1, 10], [100, 1000, 0], [0, 0, 5]])
    image = opened(matrix_picture(matrix)).convert("L")
    pixels = np.asarray(image).astype(int)
    assert pixels.shape == (3, 3)
    order = np.argsort(matrix, axis=None, kind="stable")
    assert (np.diff(pixels.ravel()[order]) >= 0).all()
    assert opened(matrix_picture(np.zeros((4, 4), int))).size == (4, 4)


def test_thumbnails_are_small_and_keep_small_images() -> None:
    large = opened(thumbnail(Image.new("RGB", (1000, 500), "red")))
    assert large.size == (SIDE, SIDE // 2)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    small = opened(thumbnail(Image.fromarray(noise)))
    np.testing.assert_array_equal(np.asarray(small), noise)


def test_an_image_is_read_once() -> None:
    read: list[int] = []

    def image(index: int) -> Image.Image:
        read.append(index)
        return Image.new("RGB", (8, 8))

    assert list(thumbnails([3, 1, 3, 1], image)) == [3, 1]
    assert read == [3, 1]
