"""Maps drawn over the upright photograph, in its own pixels, with their real scale beside them.

The colours are viridis: its lightness rises evenly, so that it reads the same in grey and for eyes
that tell fewer colours apart.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from vtrain.data.inspect.lettering import runs
from vtrain.errors import printable
from vtrain.explain.words import classes_text, two_lines, wrapped

COLOURS = "viridis"
OPACITY = 0.65
"""Of the map over the photograph, which is grey and of half its contrast under it."""
COLUMNS, INCHES, DPI = 4, 3.0, 110
SHARPEST = 512
"""Pixels of a side that a panel can show."""
PIXELATED = 64
"""Up to this side an image's pixels are drawn as squares: it has no more than they show."""
LETTERS, LINE = 15, 0.14
"""In an inch of the list of classes, and inches of a line of text."""
SHEET_COLUMNS, SHEET_ROWS = 8, 8
FLAT = 0.1
"""A map is flat whose values differ by no more than this share of the largest."""

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """A map with what it is called. Shape: (rows, columns), not negative."""

    title: str
    values: Array


@dataclass(frozen=True)
class Subject:
    """What a picture shows.

    Attributes:
        name: Of the image.
        image: Upright.
        box: (left, top, right, bottom) of what the model saw, in pixels of `image`; beyond its
            border where the model saw a filling.
        classes: The likeliest with their probabilities.
        panels: The maps, which cover `box`.
    """

    name: str
    image: Image.Image
    box: Box
    classes: Sequence[tuple[str, float]]
    panels: Sequence[Panel]

    @property
    def text(self) -> str:
        """All that a picture may have to write."""
        names = [name for name, _ in self.classes]
        return "".join([self.name, *names, *(panel.title for panel in self.panels)])

    def small(self) -> "Subject":
        """Return the same with an image of thumbnail size; its pixels still count as before."""
        reduced = self.image.copy()
        reduced.thumbnail((SHARPEST // 4,) * 2)
        scale = reduced.width / self.image.width, reduced.height / self.image.height
        box = tuple(edge * scale[i % 2] for i, edge in enumerate(self.box))
        return Subject(self.name, reduced, box, self.classes[:1], self.panels[:1])  # type: ignore[arg-type]


def picture(subject: Subject) -> bytes:
    """Return a PNG: the photograph with its classes, then each map over it with its scale."""
    count = 1 + len(subject.panels)
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    lines = classes_text(subject.classes, int(INCHES * columns * LETTERS) - 8)
    titles = [wrapped(subject.name), *map(titled, subject.panels)]
    # As high as the image asks for beside a scale, with room for titles; the classes are below.
    tall = (INCHES - 0.6) * min(1.2, max(0.3, subject.image.height / subject.image.width)) + 0.4
    tall += LINE * max(title.count("\n") for title in titles)
    below = LINE * (lines.count("\n") + 1) + 0.1
    with drawing(subject.text):
        size = INCHES * columns, tall * rows + below
        figure = Figure(size, dpi=DPI, layout="constrained")
        # Rows of a fixed height: a layout of all would give the list what titles leave.
        heights = [tall, below, *[tall] * (rows - 1)]
        parts = figure.subfigures(rows + 1, 1, squeeze=False, height_ratios=heights)
        first, words, *others = parts[:, 0]
        axes = [
            row.add_subplot(1, columns, 1 + column, anchor="NW")
            for row in (first, *others)
            for column in range(columns)
        ]
        for unused in axes[count:]:
            unused.set_axis_off()
        photograph(axes[0], subject)
        words.text(0.01, 1, lines, va="top",
                   family=["DejaVu Sans Mono", *mpl.rcParams["font.family"]])  # fmt: skip
        for one, title in zip(axes, titles, strict=False):
            one.set_title(title, loc="left")
        for one, panel in zip(axes[1:], subject.panels, strict=False):
            scale = scale_of([panel])
            overlay(one, subject, panel, scale)
            beside = one.inset_axes((1.03, 0, 0.05, 1))  # as high as the picture, whatever that is
            figure.colorbar(mappable(scale), cax=beside, extend=clipped([panel], scale))
            beside.ticklabel_format(scilimits=(-2, 3))
        return png(figure)


def titled(panel: Panel) -> str:
    """Return what stands over a map."""
    said = flatness(panel.values)
    return wrapped(panel.title) + (said and f"\n{said}")


def sheets(subjects: Sequence[Subject]) -> Iterator[bytes]:
    """Yield PNGs with the first map of many images, all on one scale."""
    scale = scale_of([subject.panels[0] for subject in subjects])
    size = SHEET_COLUMNS * SHEET_ROWS
    for start in range(0, len(subjects), size):
        yield sheet(subjects[start : start + size], scale)


def sheet(subjects: Sequence[Subject], scale: Normalize) -> bytes:
    """Return a PNG of up to 64 images."""
    columns = min(SHEET_COLUMNS, len(subjects))
    rows = math.ceil(len(subjects) / columns)
    with drawing("".join(subject.text for subject in subjects)):
        # Placed by hand: a layout of so many axes would take as long as all their maps.
        width, height, foot = 1.5, 2.05, 0.55
        figure = Figure((width * columns, height * rows + foot), dpi=DPI)
        total_width, total_height = figure.get_size_inches()
        for i, subject in enumerate(subjects):
            left, top = width * (i % columns), height * (i // columns)
            x, y = (left + 0.05) / total_width, (total_height - top - 1.45) / total_height
            axes = figure.add_axes((x, y, 1.4 / total_width, 1.4 / total_height))
            overlay(axes, subject, subject.panels[0], scale)
            flat = "\nflat" if flatness(subject.panels[0].values) else ""
            said = [f"{p:.0%} {name}" for name, p in subject.classes[:1]]
            lines = [two_lines(text) for text in (subject.name, *said)]
            axes.text(0, -0.03, "\n".join(lines) + flat, va="top", fontsize=6,
                      transform=axes.transAxes)  # fmt: skip
        share = min(0.8, 4 / total_width)
        axes = figure.add_axes((0.1 * share, 0.32 / total_height, share, 0.12 / total_height))
        ends = clipped([subject.panels[0] for subject in subjects], scale)
        figure.colorbar(mappable(scale), cax=axes, orientation="horizontal", extend=ends)
        axes.set_title("one scale for all", fontsize=6, pad=2)
        axes.tick_params(labelsize=6)
        return png(figure)


def muted(image: Image.Image) -> Image.Image:
    """Return an image in grey, its light and dark halved: they would pass for the map's own."""
    return image.convert("L").point([64 + level // 2 for level in range(256)])


def photograph(axes: Axes, subject: Subject, *, grey: bool = False) -> None:
    """Draw the photograph; what the model did not see is pale, behind a dashed border."""
    image = subject.image
    width, height = image.size
    shown = muted(image) if grey else image
    if max(image.size) > SHARPEST:
        shown = shown.copy()
        shown.thumbnail((SHARPEST, SHARPEST))
    how = "nearest" if max(image.size) <= PIXELATED else "antialiased"
    axes.imshow(np.asarray(shown), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0),
                interpolation=how)  # fmt: skip
    left, top, right, bottom = subject.box
    inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    for x0, y0, x1, y1 in (
        (0, 0, width, inside[1]),
        (0, inside[3], width, height),
        (0, inside[1], inside[0], inside[3]),
        (inside[2], inside[1], width, inside[3]),
    ):
        if x1 - x0 > 0 and y1 - y0 > 0:
            style: Any = {"facecolor": (1, 1, 1, 0.55), "edgecolor": "0.35", "hatch": "///"}
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, lw=0, **style))
    border = Rectangle(inside[:2], inside[2] - inside[0], inside[3] - inside[1], fill=False)
    if inside != (0, 0, width, height):
        border.set(edgecolor="black", linestyle="--", linewidth=1)
        axes.add_patch(border)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def overlay(axes: Axes, subject: Subject, panel: Panel, scale: Normalize) -> None:
    """Draw a map over the grey photograph, where the model saw it."""
    photograph(axes, subject, grey=True)
    left, top, right, bottom = subject.box
    per_pixel = len(panel.values) > PIXELATED
    how = "antialiased" if per_pixel else "bilinear"
    axes.imshow(panel.values, cmap=COLOURS, norm=scale, alpha=OPACITY, interpolation=how,
                extent=(left, right, bottom, top))  # fmt: skip
    width, height = subject.image.size
    # `imshow` has moved them to the map, which may be smaller than the photograph or reach beyond.
    axes.set(xlim=(0, width), ylim=(height, 0))


def scale_of(panels: Sequence[Panel]) -> Normalize:
    """Return the scale from the smallest to the largest value, or near it if few are far above.

    That of a flat map begins at 0, so that it looks as flat as it is.
    """
    values = np.concatenate([panel.values.ravel() for panel in panels])
    low, top = float(values.min()), float(values.max())
    usual = float(np.quantile(values, 0.995))
    if values.size > 10_000 and top > 2 * usual > 0:  # single pixels, as integrated gradients have
        top = usual
    return Normalize(0 if is_flat(low, top) else low, top or 1.0, clip=False)


def is_flat(low: float, top: float) -> bool:
    """Return whether a map of values from `low` to `top` tells no place from another."""
    return top - low <= FLAT * top


def flatness(values: Array) -> str:
    """Say that a map is flat, or nothing."""
    low, top = float(values.min()), float(values.max())
    if top == 0:
        return "zero everywhere: no evidence"
    if not is_flat(low, top):
        return ""
    return f"flat: all within {(top - low) / top:.1%} of the largest"


def clipped(panels: Sequence[Panel], scale: Normalize) -> str:
    """Return whether the colour bar must say that some values are above it."""
    assert scale.vmax is not None
    return "max" if max(panel.values.max() for panel in panels) > scale.vmax else "neither"


def mappable(scale: Normalize) -> ScalarMappable:
    """Return what a colour bar is drawn of."""
    return ScalarMappable(scale, COLOURS)


@cache
def family_of(path: str) -> str:
    """Return the name of a font's file for matplotlib, which may not have known of it."""
    known = {font.fname: font.name for font in fontManager.ttflist}
    if path not in known:
        fontManager.addfont(path)
    return known.get(path) or fontManager.ttflist[-1].name


@contextmanager
def drawing(text: str = "") -> Iterator[None]:
    """Set what every figure shares, and the fonts that have the letters of `text`."""
    paths = dict.fromkeys(path for path, _ in runs(printable(text)))
    families = list(dict.fromkeys(["DejaVu Sans", *map(family_of, paths)]))
    style: Any = {
        "font.family": families,
        "font.size": 8,
        "axes.titlesize": 8,
        "text.parse_math": False,  # a class may be called $a$
        "hatch.linewidth": 0.4,
    }
    with mpl.rc_context(style):
        yield


def png(figure: Figure) -> bytes:
    """Return a figure as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
