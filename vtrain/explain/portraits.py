"""Figures of what a model learnt, from plain arrays. A PNG each."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vtrain.explain.draw import COLOURS, DPI, drawing, png
from vtrain.explain.reach import Reach
from vtrain.explain.weights import Array
from vtrain.explain.words import wrapped

MARKS = "osD^vP*X<>dhp8"
"""Of classes in a scatter: hue alone would not tell so many apart, in grey least of all."""
WINDOWS = 4
"""Pictures of windows in a row."""


def reach_figure(layers: Sequence[Reach], title: str) -> bytes:
    """Draw each head's mean distance by depth, as published and renormalised, and uniform's."""
    with drawing():
        figure = Figure((9, 3.6), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name in ((left, "as_published"), (right, "renormalised")):
            for depth, layer in enumerate(layers):
                heads = np.sort(getattr(layer, name))
                axes.plot([depth] * len(heads), heads, "o", ms=4, alpha=0.7, color="C0")
            axes.plot([one.uniform for one in layers], "--", color="black", lw=1, label="uniform")
            axes.set(xlabel="block", title=name.replace("_", " "))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="lower right")
        left.set_ylim(0)  # only now: it holds the other end, which both axes share, where it is
        left.set_ylabel("mean attention distance, pixels")
        figure.suptitle(wrapped(title, 90))
        return png(figure)


def entropy_figure(layers: Sequence[Reach]) -> bytes:
    """Draw each head's entropy and its mass on the query itself and on prefix tokens, if any."""
    panels = [("entropy", "entropy / its largest"), ("itself", "mass on the query itself")]
    if any(layer.prefix.any() for layer in layers):
        panels.append(("prefix", "mass on prefix tokens"))
    with drawing():
        figure = Figure((9, 3.2), dpi=DPI, layout="constrained")
        drawn = figure.subplots(1, len(panels), sharey=True)
        for axes, (name, label) in zip(drawn, panels, strict=True):
            for depth, layer in enumerate(layers):
                heads = getattr(layer, name)
                axes.plot([depth] * len(heads), heads, "o", ms=4, alpha=0.7, color="C0")
            axes.set(xlabel="block", title=label, ylim=(-0.02, 1.02))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return png(figure)


def tiles_figure(tiles: NDArray[np.float64], title: str, *, signed: bool = False) -> bytes:
    """Draw pictures (M, rows, columns) on one scale, or (M, rows, columns, 3) each on its own.

    The scale of signed numbers has 0 in its middle and still gets lighter from end to end: of
    colours that get darker both ways nobody could tell the signs in grey.
    """
    count = len(tiles)
    columns = min(count, 14)
    rows = -(-count // columns)
    with drawing():
        figure = Figure((0.62 * columns + 1.2, 0.62 * rows + 0.5), dpi=DPI, layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        top = float(np.abs(tiles).max()) or 1.0
        low = -top if signed else float(tiles.min())
        image = None
        for one, tile in zip(axes, tiles, strict=False):
            if tile.ndim == 3:
                one.imshow((tile - tile.min()) / (np.ptp(tile) or 1))
            else:
                image = one.imshow(tile, cmap=COLOURS, vmin=low, vmax=top)
        for one in axes:
            one.set_axis_off()
        if image is not None:
            figure.colorbar(image, ax=axes.tolist(), shrink=0.8)
        figure.suptitle(wrapped(title, 12 * max(columns, 5)), fontsize=8)
        return png(figure)


def positions_figure(cosines: Array, rows: int, columns: int) -> bytes:
    """Draw the cosines of each position with all, a tile for each, where it lies."""
    step_y, step_x = -(-rows // 14), -(-columns // 14)  # at most 14 x 14 tiles
    shown_y, shown_x = range(0, rows, step_y), range(0, columns, step_x)
    canvas = np.full((len(shown_y) * (rows + 1), len(shown_x) * (columns + 1)), np.nan)
    for i, y in enumerate(shown_y):
        for j, x in enumerate(shown_x):
            tile = cosines[y * columns + x].reshape(rows, columns)
            top, left = i * (rows + 1), j * (columns + 1)
            canvas[top : top + rows, left : left + columns] = tile
    with drawing():
        figure = Figure((6, 5), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(canvas, cmap=COLOURS, interpolation="nearest")
        axes.set_axis_off()
        figure.colorbar(image, ax=axes, label="cosine")
        return png(figure)


def windows_figure(
    photograph: NDArray[np.uint8],
    numbers: Sequence[NDArray[np.int64]],
    groups: Sequence[NDArray[np.int64]],
    titles: Sequence[str],
) -> bytes:
    """Draw windows as lines over a photograph; what the mask keeps apart has its own shade."""
    columns = min(WINDOWS, len(numbers))
    rows = -(-len(numbers) // columns)
    with drawing():
        figure = Figure((2.4 * columns, 2.8 * rows), dpi=DPI, layout="constrained")
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in all_axes[len(numbers) :]:
            unused.set_axis_off()
        for axes, number, group, title in zip(all_axes, numbers, groups, titles, strict=False):
            windows_panel(axes, photograph, number, group)
            axes.set_title(wrapped(title, 30))
        return png(figure)


def windows_panel(
    axes: Axes, photograph: NDArray[np.uint8], number: NDArray[np.int64], group: NDArray[np.int64]
) -> None:
    """Draw the windows and mask regions of one layer, (rows, columns), over a photograph."""
    height, width = photograph.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(photograph, extent=extent, interpolation="nearest")
    tint = mpl.colormaps["cividis"](np.linspace(0.25, 1, 4))[group]
    tint[..., 3] = np.where(group > 0, 0.75, 0.0)
    axes.imshow(tint, extent=extent, interpolation="nearest")
    rows, columns = number.shape
    cell_y, cell_x = height / rows, width / columns
    # A white line on a dark one: it shows on every photograph.
    for colour, thickness in (("black", 2.2), ("white", 1.0)):
        for y, x in zip(*np.nonzero(np.diff(number, axis=0)), strict=True):
            edge = (y + 1) * cell_y
            axes.plot([x * cell_x, (x + 1) * cell_x], [edge, edge], color=colour, lw=thickness)
        for y, x in zip(*np.nonzero(np.diff(number, axis=1)), strict=True):
            edge = (x + 1) * cell_x
            axes.plot([edge, edge], [y * cell_y, (y + 1) * cell_y], color=colour, lw=thickness)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def matrix_figure(matrix: Array, x: str, y: str) -> bytes:
    """Draw a matrix of similarities from 0 to 1, the first layer at the lower left."""
    with drawing(x + y):
        figure = Figure((4.6, 4), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(matrix, cmap=COLOURS, vmin=0, vmax=1, origin="lower")
        axes.set(xlabel=wrapped(x, 60), ylabel=wrapped(y, 60))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=axes, label="linear CKA")
        return png(figure)


def scatter_figure(
    planes: Sequence[Array], labels: NDArray[np.int64], names: Sequence[str], titles: Sequence[str]
) -> bytes:
    """Draw the same images on the planes of several models, a class by its colour and its mark.

    Of many classes the most frequent have them, and the others are small grey dots. Shape: planes
    (N, 2) each, labels (N,), which count in `names`.
    """
    counts = np.bincount(labels, minlength=len(names))
    shown = np.argsort(-counts, kind="stable")[: len(MARKS)]
    shown = np.sort(shown[counts[shown] > 0])
    colours = mpl.colormaps[COLOURS](np.linspace(0, 0.95, len(shown)))
    with drawing("".join([*titles, *(names[label] for label in shown)])):
        figure = Figure((5 * len(planes) + 1.5, 5), dpi=DPI, layout="constrained")
        rest = ~np.isin(labels, shown)
        axes = figure.subplots(1, len(planes), squeeze=False)[0]
        for one, points, title in zip(axes, planes, titles, strict=True):
            if rest.any():
                one.plot(*points[rest].T, ".", ms=3, color="0.8", label=f"{rest.sum()} of others")
            for number, (label, colour) in enumerate(zip(shown, colours, strict=True)):
                chosen = points[labels == label]
                one.plot(*chosen.T, MARKS[number], ms=5, color=colour, mec="0.25", mew=0.4,
                         label=wrapped(names[label], 24))  # fmt: skip
            one.set(xticks=[], yticks=[], title=wrapped(title, 60))
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside right center")
        return png(figure)
