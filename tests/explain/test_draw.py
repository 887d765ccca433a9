import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from vtrain.data.inspect import lettering
from vtrain.explain import draw
from vtrain.explain.draw import Panel, Subject, picture, sheets
from vtrain.explain.small import overlaid
from vtrain.explain.words import wrapped


def subject(size: tuple[int, int] = (40, 30), name: str = "cat.jpg", **changes: object) -> Subject:
    values = {
        "image": Image.new("RGB", size, (200, 30, 90)),
        "box": (0.0, 0.0, *map(float, size)),
        "classes": [("cat", 0.75), ("dog", 0.25)],
        "panels": [Panel("relevance: cat", np.eye(4, dtype=np.float32))],
    }
    return Subject(name, **{**values, **changes})


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)


def test_the_hottest_place_is_drawn_where_it_is() -> None:
    """Over a black photograph the only yellow is the map's, in its own cell of the box."""
    values = np.zeros((4, 4), np.float32)
    values[1, 3] = 1.0
    image = Image.new("RGB", (80, 40), "black")
    with draw.drawing():
        figure = mpl.figure.Figure((8, 4), dpi=10)
        axes = figure.add_axes((0, 0, 1, 1))
        one = subject(image=image, box=(20.0, 0.0, 60.0, 40.0), panels=[Panel("", values)])
        draw.overlay(axes, one, one.panels[0], draw.scale_of(one.panels))
        drawn = pixels(draw.png(figure))  # (40, 80): a pixel of the image is one of the figure
    yellow = (drawn[..., 0] + drawn[..., 1] - 2 * drawn[..., 2])[:, 21:59]
    y, x = np.unravel_index(yellow.argmax(), yellow.shape)
    assert 10 <= y < 20  # row 1 of 4
    assert 50 <= x + 21 < 60  # column 3 of 4, from 20 to 60
    # What the model did not see shows no map: both sides are grey, hatched.
    outside = drawn[:, [*range(18), *range(62, 80)]]
    assert (outside.max(-1) - outside.min(-1)).max() <= 2


def test_colours_rise_evenly_in_grey() -> None:
    shades = mpl.colormaps[draw.COLOURS](np.linspace(0, 1, 32))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(shades) > 0).all()


def test_in_grey_the_photograph_does_not_pass_for_the_map() -> None:
    """The lowest over white is darker than half of the scale over black."""
    image = Image.new("RGB", (8, 4), "white")
    image.paste("black", (4, 0, 8, 4))
    values = np.repeat(np.array([[0.0, 0.5, 1.0]], np.float32), [4, 3, 1], axis=1)  # (1, 8)
    drawn = np.asarray(overlaid(image, (0, 0, 8, 4), values, 8).convert("L"), int)
    assert drawn[:, :3].max() + 5 < drawn[:, 5].min()
    assert drawn[:, 5].max() < drawn[:, 7].min()


@pytest.mark.parametrize("name", ["$\\frac{$", "猫.jpg", "\udce9.jpg", "a" * 300, ""])
def test_no_name_stops_a_picture(name: str) -> None:
    one = subject(name=name, classes=[(name, 1.0)], panels=[Panel(name, np.ones((2, 2)))])
    assert pixels(picture(one)).shape[2] == 3
    assert list(sheets([one, one]))


@pytest.mark.parametrize("size", [(640, 427), (300, 300), (100, 900), (900, 30)])
@pytest.mark.parametrize("words", [1, 20, 60])
def test_no_line_is_cut_off(size: tuple[int, int], words: int) -> None:
    """All ten lines of classes are there, below whatever the titles need."""
    name = " ".join(["class"] * words)
    panels = [Panel(f"relevance: {name}", np.zeros((4, 4), np.float32))] * 2
    classes = [(f"{'class ' * 30}{i}", 0.1) for i in range(5)]  # two lines each
    drawn = pixels(picture(subject(size, classes=classes, panels=panels))).min(-1)
    assert drawn[:2].min() == drawn[-2:].min() == 255
    ink = (drawn[:, :400] < 128).any(1)  # the left: photograph, classes
    starts = np.flatnonzero(np.diff(ink.astype(int)) == 1)
    assert len(starts) >= 10
    assert (np.diff(starts[-10:]) < 20).all(), "lines of text, one below the other"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (900, 2), (700, 600)])
def test_images_of_any_shape_are_drawn(size: tuple[int, int]) -> None:
    assert pixels(picture(subject(size))).std() > 0


def test_a_scale_is_as_high_as_the_picture() -> None:
    names = [(f"class {i}", 0.1) for i in range(5)]
    drawn = pixels(picture(subject((400, 100), classes=names)))
    coloured = np.ptp(drawn, axis=-1) > 60
    bar = np.flatnonzero(coloured[:, np.flatnonzero(coloured.any(0))[-2]])
    photograph = np.flatnonzero(coloured[:, 100])
    assert (bar[0], bar[-1]) == pytest.approx((photograph[0], photograph[-1]), abs=2)


def test_many_maps_wrap_and_many_images_take_several_sheets() -> None:
    panels = [Panel(str(i), np.full((2, 2), i, np.float32)) for i in range(5)]
    wide, high = (pixels(picture(subject(panels=panels[:n]))).shape[:2] for n in (3, 5))
    assert high[1] == wide[1]
    assert high[0] > wide[0]
    assert len(list(sheets([subject().small()] * 65))) == 2


def test_a_scale_goes_from_the_smallest_to_the_largest_value() -> None:
    panels = [Panel("", np.array([[0.2, 0.7]])), Panel("", np.array([[0.1]]))]
    scale = draw.scale_of(panels)
    assert (scale.vmin, scale.vmax) == (0.1, 0.7)
    assert draw.clipped(panels, scale) == "neither"


@pytest.mark.parametrize(
    ("low", "high", "begins", "said"),
    [
        (0.0, 0.0, 0, "zero everywhere: no evidence"),
        (1.0, 1.0, 0, "flat: all within 0.0% of the largest"),
        (0.0095, 0.01, 0, "flat: all within 5.0% of the largest"),
        (0.008, 0.01, 0.008, ""),
    ],
)
def test_a_flat_map_looks_flat_and_is_said_to_be(
    low: float, high: float, begins: float, said: str
) -> None:
    values = np.full((4, 4), low)
    values[0, 0] = high
    scale = draw.scale_of([Panel("", values)])
    assert (scale.vmin, scale.vmax) == (begins, high or 1)
    assert draw.flatness(values) == said
    shades = mpl.colormaps[draw.COLOURS](scale(np.array([low, high])))[:, :3].mean(1)
    assert (np.ptp(shades) < 0.1) == bool(said)


def test_single_pixels_far_above_all_others_do_not_set_the_scale() -> None:
    values = np.ones((224, 224))
    values[3, 4] = 1000
    panels = [Panel("", values)]
    scale = draw.scale_of(panels)
    assert scale.vmax == 1
    assert draw.clipped(panels, scale) == "max"


def test_a_small_subject_shows_the_same_part() -> None:
    small = subject((1000, 500), box=(250.0, 0.0, 750.0, 500.0)).small()
    assert small.image.size == (128, 64)
    assert small.box == (32.0, 0.0, 96.0, 64.0)


@pytest.mark.parametrize(
    "name", ["Łódź", "кошка", "猫", "고양이", "ねこ", "\U00010348", "é".join("ab")]
)
def test_no_letter_is_an_empty_box(name: str) -> None:
    """A letter is drawn by a font that has it or by its number; matplotlib warns of any other."""
    one = subject(name=name, classes=[(name, 1.0)], panels=[Panel(name, np.eye(2))])
    assert pixels(picture(one)).std() > 0
    assert list(sheets([one, one]))
    known = all(lettering.font_of(letter) for letter in name)
    assert (wrapped(name) == name) == known
    if not known:
        assert wrapped(name).isascii()
