"""The report as one HTML file: no script, no address outside of it, everything else escaped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from vtrain.report import figures
from vtrain.report.analysis import MAX_SUSPECTS, Analysis
from vtrain.report.comparison import Comparison
from vtrain.report.confusion import MAX_SHOWN, row_normalised
from vtrain.report.facts import Row, RunFacts, curve
from vtrain.report.figures import Series
from vtrain.report.label_analysis import LabelAnalysis
from vtrain.report.measured import Measured
from vtrain.report.render import environment
from vtrain.report.thumbnails import Maps, ReadImage, image_sizes, thumbnails

CURVES = (
    ("loss", ("train/loss", "val/loss")),
    ("accuracy", ("val/top1", "val/top5")),
    ("average precision", ("val/map", "val/map_micro")),
    ("F1 and exact match", ("val/f1", "val/f1_micro", "val/exact_match")),
    ("learning rate", ("train/lr",)),
    ("images per second", ("train/images_per_second",)),
)
OVERLAID = (
    ("accuracy", "val/top1"),
    ("mean average precision", "val/map"),
    ("validation loss", "val/loss"),
    ("training loss", "train/loss"),
    ("learning rate", "train/lr"),
)


def run_page(
    facts: RunFacts,
    analysis: Analysis | LabelAnalysis | str,
    read: ReadImage | None = None,
    folds: Comparison | None = None,
    measured: Measured | None = None,
    maps: Maps | None = None,
    beside: Sequence[str] = (),
) -> str:
    """Return the report of one run.

    Args:
        facts: What the run's folder says.
        analysis: Of its predictions, or why there is none.
        read: Gives the images that the predictions are of, where they are at hand.
        folds: The runs whose predictions were joined, where there are several.
        measured: What was measured with the model, where that was asked for.
        maps: What the model looked at on the images of the galleries.
        beside: Names of the files that have the same figures.
    """
    context: dict[str, Any] = {
        "facts": facts,
        "curves": training_curves(facts.rows),
        "missing": analysis if isinstance(analysis, str) else None,
        "a": None,
        "l": None,
        "folds": folds,
        "m": measured or Measured(),
        "maps": maps or Maps(),
        "beside": beside,
    }
    if isinstance(analysis, Analysis):
        context |= _analysis_context(analysis, read)
    if isinstance(analysis, LabelAnalysis):
        context |= _label_context(analysis, read)
    return environment().get_template("run.html").render(context)


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
    return environment().get_template("runs.html").render(context)


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


def _label_context(found: LabelAnalysis, read: ReadImage | None) -> dict[str, Any]:
    """Return what the sections on predictions of several labels show."""
    shown = found.shown_classes()
    return {
        "l": found,
        "names": found.classes,
        "ranked": found.per_class.worst_first().tolist(),
        "per_class": found.per_class,
        "shown": shown,
        "counts": found.together[np.ix_(shown, shown)].tolist(),
        "images": {} if read is None else thumbnails((one.index for one in found.worst), read),
        "can_read": read is not None,
    }


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
        "sizes": [] if read is None else image_sizes(len(a.ids), read),
        "suspects": a.labels.suspects[:MAX_SUSPECTS],
    }
