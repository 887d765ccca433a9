"""The report as one HTML file: no script, no address outside of it, everything else escaped."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from vtrain.report import figures
from vtrain.report.analysis import MAX_SUSPECTS, Analysis
from vtrain.report.comparison import Comparison
from vtrain.report.confusion import MAX_SHOWN, row_normalised
from vtrain.report.facts import Row, RunFacts, curve, flat
from vtrain.report.figures import Series
from vtrain.report.measured import Measured
from vtrain.report.thumbnails import Maps, ReadImage, thumbnails

CURVES = (
    ("loss", ("train/loss", "val/loss")),
    ("accuracy", ("val/top1", "val/top5")),
    ("learning rate", ("train/lr",)),
    ("images per second", ("train/images_per_second",)),
)
OVERLAID = (
    ("accuracy", "val/top1"),
    ("validation loss", "val/loss"),
    ("training loss", "train/loss"),
    ("learning rate", "train/lr"),
)
DASH = "\u2013"  # stands for what is not defined


def run_page(
    facts: RunFacts,
    analysis: Analysis | str,
    read: ReadImage | None = None,
    folds: Comparison | None = None,
    measured: Measured | None = None,
    maps: Maps | None = None,
) -> str:
    """Return the report of one run.

    Args:
        facts: What the run's folder says.
        analysis: Of its predictions, or why there is none.
        read: Gives the images that the predictions are of, where they are at hand.
        folds: The runs whose predictions were joined, where there are several.
        measured: What was measured with the model, where that was asked for.
        maps: What the model looked at on the images of the galleries.
    """
    context: dict[str, Any] = {
        "facts": facts,
        "curves": training_curves(facts.rows),
        "missing": analysis if isinstance(analysis, str) else None,
        "a": None,
        "folds": folds,
        "m": measured or Measured(),
        "maps": maps or Maps(),
    }
    if isinstance(analysis, Analysis):
        context |= _analysis_context(analysis, read)
    return _environment().get_template("run.html").render(context)


def runs_page(
    comparison: Comparison, facts: Sequence[RunFacts], images: Mapping[str, str] | None = None
) -> str:
    """Return the comparison of several runs.

    Args:
        comparison: Of the runs.
        facts: What their folders say, in the order of the comparison's lines.
        images: Data URIs of those that one run gets right and the other wrong, by their names.
    """
    drawn = facts[: len(figures.SERIES)]  # no more can be told apart
    pictures = []
    for number, (title, name) in enumerate(OVERLAID):
        # A run without points keeps its place, and so its colour in the legend.
        series = [Series(*curve(one.rows, name)) for one in drawn]
        if any(one.x for one in series):
            pictures.append((title, figures.curves(f"overlay{number}", series, "step", title)))
    context = {
        "c": comparison,
        "images": images or {},
        "names": [one.name for one in drawn],
        "curves": pictures,
        "more": len(facts) > len(drawn),
    }
    return _environment().get_template("runs.html").render(context)


def training_curves(rows: Sequence[Row]) -> list[tuple[str, list[str], Markup]]:
    """Return title, the names in the legend and the figure of each curve that the rows have."""
    result = []
    for number, (title, names) in enumerate(CURVES):
        points = {name: Series(*curve(rows, name)) for name in names}
        present = {name: series for name, series in points.items() if series.x}
        if present:
            figure = figures.curves(f"curve{number}", list(present.values()), "step", title)
            result.append((title, list(present), figure))
    return result


def _analysis_context(a: Analysis, read: ReadImage | None) -> dict[str, Any]:
    """Return what the sections on predictions show besides the analysis itself."""
    shown = a.shown_classes()
    support = a.per_class.support
    return {
        "a": a,
        "names": a.classes,
        "ranked": a.per_class.worst_first().tolist(),
        "per_class": a.per_class,
        "shown": shown.tolist(),
        "rates": row_normalised(a.matrix)[np.ix_(shown, shown)].tolist(),
        "counts": a.matrix[np.ix_(shown, shown)].tolist(),
        # Beyond what a table can show, the whole matrix is drawn as well.
        "picture": figures.matrix_picture(a.matrix[np.ix_(a.order, a.order)])
        if len(a.classes) > MAX_SHOWN
        else None,
        "support_figure": figures.histogram("support", support, "images", "classes")
        if len(a.classes) > MAX_SHOWN
        else None,
        "reliability": figures.reliability(a.calibration.bins),
        "risk_coverage": figures.curves(
            "risk", [Series(a.reject.coverage, a.reject.risk)], "share kept", "error among kept"
        ),
        "images": {} if read is None else thumbnails(a.galleries.indices(), read),
        "can_read": read is not None,
        "suspects": a.labels.suspects[:MAX_SUSPECTS],
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vtrain.report", "templates"),
        autoescape=True,  # names of classes, files and runs are a stranger's text
        undefined=jinja2.StrictUndefined,  # a misspelt name fails and leaves no blank
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "count": count,
        "value": value,
        "figure": figure_text,
        "flat": flat,
    }
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return DASH if share is None or math.isnan(share) else f"{share * 100:.{digits}f}\u00a0%"


def number(amount: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, a small one with so many significant digits."""
    if amount is None or math.isnan(amount):
        return DASH
    # Below that the decimals would hold one significant digit at most.
    small = 0 < abs(amount) < 10 ** -(digits - 1) and digits > 1
    return f"{amount:.{digits}g}" if small else f"{amount:,.{digits}f}"


def count(amount: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return DASH if amount is None else f"{amount:,.0f}"


def figure_text(amount: float | None, name: str) -> str:
    """Return a figure of a run in the form that its name calls for."""
    if name.endswith(("top-1", "top-5")):
        return percent(amount, 2)
    if name == "seconds":
        return number(amount, 1)
    if name in ("parameters", "images/s", "peak MB"):
        return count(amount)
    return number(amount) if name != "epochs" else count(amount)


def value(anything: object) -> str:
    """Return a value of a config or of a summary as a person would write it."""
    if isinstance(anything, float):
        return f"{anything:.6g}"
    if anything is None:
        return DASH
    if isinstance(anything, bool):
        return "true" if anything else "false"
    if isinstance(anything, list | tuple):
        return "[" + ", ".join(value(item) for item in anything) + "]"
    return str(anything)
