"""Figures of a model: nothing is cut off, and colours can be read in grey."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from vtrain.explain import portraits
from vtrain.explain.reach import Reach


@pytest.fixture(autouse=True)
def _figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out figures as they are, after they were laid out."""
    monkeypatch.setattr(
        portraits, "png", lambda figure: (figure.draw_without_rendering(), figure)[1]
    )


def reach(far: float, prefix: float = 0.1) -> Reach:
    """Return a layer whose second head reaches so far; uniform attention reaches 16 pixels."""
    of_heads = np.array([0.5, 0.5])
    return Reach("blocks.0.attn", "patches", np.array([3.0, far - 5]), np.array([4.0, far]), 16.0,
                 40.0, of_heads, of_heads * prefix, of_heads)  # fmt: skip


def in_view(figure: Figure) -> bool:
    """Whether all dots and lines are inside their axes."""
    lines = [(axes, line) for axes in figure.axes for line in axes.lines]
    return all(
        axes.get_ylim()[0] <= line.get_ydata().min()
        and line.get_ydata().max() <= axes.get_ylim()[1]
        for axes, line in lines
    )


@pytest.mark.parametrize("far", [5.0, 16.0, 31.0])
def test_heads_that_reach_further_than_uniform_are_seen(far: float) -> None:
    figure = portraits.reach_figure([reach(far), reach(far / 2 + 5)], "among patches")
    assert in_view(figure)
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] == 0
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert all(tick == round(tick) for tick in axes.get_xticks() if low <= tick <= high)


def test_mass_on_prefix_tokens_is_drawn_where_there_are_any() -> None:
    titles = [
        [axes.get_title() for axes in portraits.entropy_figure([reach(9, prefix)]).axes]
        for prefix in (0.1, 0.0)
    ]
    assert titles[0] == [*titles[1], "mass on prefix tokens"]


def test_signs_are_told_apart_in_grey() -> None:
    tiles = np.array([[[-2.0, 0.0, 1.0]]])
    figure = portraits.tiles_figure(tiles, "biases", signed=True)
    (image,) = figure.axes[0].images
    grey = image.cmap(image.norm(np.linspace(-2, 2, 33)))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey) > 0).all()
    assert image.norm(0.0) == 0.5


def test_many_windows_take_several_rows() -> None:
    photograph = np.zeros((8, 8, 3), np.uint8)
    number = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 2, 0), 2, 1)
    figure = portraits.windows_figure(
        photograph, [number] * 7, [np.zeros((4, 4), np.int64)] * 7, [f"stage {i}" for i in range(7)]
    )
    drawn = [axes for axes in figure.axes if axes.images]
    tops = {round(axes.get_position().y0, 2) for axes in drawn}
    assert (len(drawn), len(tops)) == (7, 2)
    assert figure.get_size_inches()[0] <= 10
    # Each border of two windows is one light line on a dark one.
    colours = [line.get_color() for line in drawn[0].lines]
    assert colours.count("white") == colours.count("black") == 8


def test_the_colours_of_two_similar_layers_are_alike() -> None:
    figure = portraits.matrix_figure(np.array([[1.0, 0.2], [0.2, 1.0]]), "one", "other")
    (image,) = figure.axes[0].images
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.cmap == mpl.colormaps[portraits.COLOURS]
