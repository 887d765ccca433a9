"""Figures as SVG that stands in a page: its colours are the page's, and it holds no foreign text.

Names of classes, runs and files stay out of the figures: a legend of the page has them, escaped.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vtrain.report.calibration import Bin
from vtrain.report.scores import Array

INK = "#010203"
SERIES = tuple(f"#0102{16 + n:02x}" for n in range(8))
"""Colours that stand for the page's own, which differ in the dark; no figure has them by chance."""
MAX_POINTS = 300
"""Of a curve: more than its pixels."""
STYLE: Any = {  # matplotlib's type lists every key there is
    "svg.fonttype": "none",  # text stays text, in the page's font
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
}


@dataclass(frozen=True)
class Series:
    """One curve; the colour is that of its place among the others."""

    x: Sequence[float]
    y: Sequence[float]


def curves(name: str, series: Sequence[Series], x: str, y: str) -> Markup:
    """Draw curves. `name` is the figure's own among those of the page; `x`, `y` name the axes."""
    figure, axes = _figure()
    for number, one in enumerate(series):
        xs, ys = thinned(one.x, one.y)
        marker = "o" if len(xs) == 1 else ""  # a lone point would not be seen
        axes.plot(xs, ys, color=SERIES[number % len(SERIES)], lw=1.5, marker=marker, ms=4)
    axes.set(xlabel=x, ylabel=y)
    return _svg(figure, name, f"{y} by {x}")


def points(name: str, x: Sequence[float], y: Sequence[float], *, log: bool = False) -> Markup:
    """Draw points, with `log` by the factors of `x`; the page says what they are."""
    figure, axes = _figure()
    axes.plot(x, y, "o", color=SERIES[0], ms=4, alpha=0.7)
    if log:
        axes.set_xscale("log")
    elif all(value == int(value) for value in x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, name, "the metric by the value of the key")


def reliability(bins: Sequence[Bin]) -> Markup:
    """Draw accuracy against confidence with Wilson's intervals, and how many images there are."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.6), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    filled = [b for b in bins if b.count]
    middle = [(b.low + b.high) / 2 for b in bins]
    width = 0.9 / len(bins)
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls="--")
    axes.bar([(b.low + b.high) / 2 for b in filled], [b.accuracy for b in filled], width,
             color=SERIES[0], alpha=0.6)  # fmt: skip
    for b in filled:
        axes.plot([b.confidence] * 2, b.interval, color=SERIES[1], lw=1.2)
        axes.plot([b.confidence], [b.accuracy], "o", color=SERIES[1], ms=3)
    axes.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1))
    counts.bar(middle, [b.count for b in bins], width, color=SERIES[0], alpha=0.6)
    counts.set(xlabel="confidence", ylabel="images")
    counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    return _svg(figure, "reliability", "Accuracy by confidence")


def histogram(name: str, values: Array, x: str, y: str) -> Markup:
    """Draw how many of the values fall into each of up to 31 ranges. Shape: (n,) whole numbers."""
    figure, axes = _figure()
    low, high = int(values.min()), int(values.max())
    step = max(1, (high - low) // 30)  # ranges of whole numbers, so that each holds as many
    # Half-way between whole numbers, so that no value lies on an edge.
    edges = (np.arange(low, high + step + 1, step) - 0.5).tolist()
    axes.hist(values, edges, color=SERIES[0], alpha=0.7)
    axes.set(xlabel=x, ylabel=y)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return _svg(figure, name, f"{y} by {x}")


def matrix_picture(matrix: Array) -> str:
    """Return a matrix as a PNG's data URI, one pixel a cell, on a logarithmic scale.

    Shape: (K, K) counts.
    """
    # Hundreds on the diagonal would hide the few of a mistake on any scale but this.
    scale = np.log1p(matrix) / max(np.log1p(matrix.max()), 1e-9)
    shades = Image.fromarray((255 * scale).round().astype(np.uint8))
    colours = mpl.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    shades.putpalette(colours.tobytes())
    return data_uri(shades, "PNG")


def data_uri(image: Image.Image, form: str, **options: object) -> str:
    """Return an image as an address that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[Array, Array]:
    """Return up to `MAX_POINTS` of a curve's points, the first and the last among them."""
    places = np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(int)
    return np.asarray(x)[places], np.asarray(y)[places]


def _figure() -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        return figure, figure.subplots()


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an element of the page; `name` keeps its ids apart from others'."""
    buffer = io.StringIO()
    # Without any metadata no address of a vocabulary stands in the file, nor a date.
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # With no salt of its own matplotlib draws ids at random, and no page could be repeated.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    # Without the head of an XML file, which may not stand inside of HTML.
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)  # the page says how wide
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor")
    for number, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{number})")
    text = re.sub(r"font-family: [^;\"]*;? ?|<style.*?</style>", "", text)  # so is the font
    # Only matplotlib's own elements and words of this module: no foreign text comes in here.
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704
