"""The figures of a report for stdout: the most important of a run, or several runs side by side."""

import json
import math
import sys
from typing import Literal

from vtrain.errors import counted, printable
from vtrain.files.plain import plain
from vtrain.report.analysis import Analysis
from vtrain.report.comparison import (
    Against,
    Comparison,
    Repetitions,
    comparison_csv,
    comparison_rows,
)
from vtrain.report.document import analysis_data, per_class_csv
from vtrain.report.label_analysis import LabelAnalysis
from vtrain.report.render import figure_text, number, percent, value
from vtrain.run.text.tables import columns

Form = Literal["table", "json", "csv"]
TOP = 5
"""Classes that top-5 accuracy looks at."""
FEW = 5
"""Classes and pairs that are named."""


def analysis_text(analysis: Analysis | LabelAnalysis | None, form: Form) -> str:
    """Return the figures of a run: a few for a person, all as JSON, those of the classes as CSV.

    Of a run without predictions there are none.
    """
    if form == "json":
        # `null` of nothing, so that a program always gets a document.
        return json.dumps(None if analysis is None else analysis_data(analysis)) + "\n"
    if analysis is None:
        return ""
    if form == "csv":
        return per_class_csv(analysis)
    if isinstance(analysis, LabelAnalysis):
        return _labels_text(analysis)
    overall, calibration = analysis.overall, analysis.calibration
    low, high = overall.accuracy_interval
    chance = percent(calibration.ece_by_chance, 2)
    rows = [
        ["images", f"{overall.images:,}"],
        ["accuracy", f"{percent(overall.accuracy, 2)} ({percent(low, 2)} to {percent(high, 2)})"],
        ["top-5", percent(overall.top5, 2)],
        ["balanced accuracy", percent(overall.balanced_accuracy, 2)],
        ["macro F1", percent(overall.macro_f1, 2)],
        ["NLL", number(overall.nll)],
        [
            "ECE",
            f"{percent(calibration.ece, 2)} (by chance {chance})",
        ],
        ["worst classes", ", ".join(_worst(analysis))],
        ["most confused", ", ".join(_confused(analysis))],
    ]
    if len(analysis.classes) <= TOP:  # the true one is always among them
        rows = [row for row in rows if row[0] != "top-5"]
    return "".join(f"{name:18} {_shown(text)}\n" for name, text in rows)


def _labels_text(analysis: LabelAnalysis) -> str:
    overall, figures = analysis.overall, analysis.per_class
    low, high = overall.exact_match_interval
    worst = [k for k in figures.worst_first()[:FEW] if not math.isnan(figures.f1[k])]
    named = (
        f"{analysis.classes[k]} (AP {number(float(figures.average_precision[k]))})" for k in worst
    )
    exact = f"{percent(overall.exact_match, 2)} ({percent(low, 2)} to {percent(high, 2)})"
    rows = {
        "images": f"{overall.images:,}",
        "mAP": f"{number(overall.mean_average_precision)} "
        f"(micro {number(overall.micro_average_precision)})",
        "macro F1": f"{number(overall.macro_f1)} (micro {number(overall.micro_f1)})",
        "exact match": exact,
        "worst classes": ", ".join(named),
    }
    return "".join(f"{name:18} {_shown(text)}\n" for name, text in rows.items())


def comparison_text(comparison: Comparison, form: Form, most: int = sys.maxsize) -> str:
    """Return the table of several runs, and how each compares with the base.

    The table for people is `most` characters wide.
    """
    if form == "json":
        return json.dumps(plain(comparison), indent=2) + "\n"
    if form == "csv":
        return comparison_csv(comparison)
    head, rows = comparison_rows(comparison)
    first = len(head) - len(comparison.figures)  # the columns before the figures
    cells = [
        [_cell(item) for item in row[:first]]
        + [_shown(figure_text(*pair)) for pair in zip(row[first:], head[first:], strict=True)]
        for row in rows
    ]
    lines = [columns([[_cell(name) for name in head], *cells], most)]
    lines += [_repetitions(group) for group in comparison.groups]
    lines += [_against(one) for one in comparison.against]
    return "\n".join(lines) + "\n"


def _worst(analysis: Analysis) -> list[str]:
    figures = analysis.per_class
    worst = [k for k in figures.worst_first()[:FEW] if not math.isnan(figures.f1[k])]
    return [f"{analysis.classes[k]} (F1 {percent(float(figures.f1[k]))})" for k in worst]


def _confused(analysis: Analysis) -> list[str]:
    names = analysis.classes
    return [f"{names[p.first]} / {names[p.second]} ({p.count})" for p in analysis.pairs[:FEW]]


def _against(one: Against) -> str:
    """Return a line on a run and the base."""
    paired = one.paired
    if paired is None:
        return _shown(f"{one.name} against {one.base}: cannot be told, {one.reason}")
    verdict = "no difference can be told"
    if paired.is_different:
        verdict = "better" if paired.difference > 0 else "worse"
    low, high = paired.difference_interval
    return _shown(
        f"{one.name} against {one.base}: {percent(paired.difference, 2)} "
        f"({percent(low, 2)} to {percent(high, 2)}), p = {number(paired.p_value)}: {verdict}"
    )


def _repetitions(group: Repetitions) -> str:
    """Return a line on runs that differ in seed or fold alone, or on one that has no such other."""
    values = "".join(f" {key}={value(item)}" for key, item in group.values.items())
    means = [
        f"{name} {figure_text(mean, name)}"
        + (f" +- {figure_text(group.deviation[name], name)}" if group.n > 1 else "")
        for name in ("best top-1", "last top-1", "best loss")
        if (mean := group.mean[name]) is not None
    ]
    return _shown(f"{counted(group.n, 'run')}{values}: {', '.join(means)}")


def _cell(item: object) -> str:
    return _shown(value(item))


def _shown(text: str) -> str:
    """Make text safe to print; on a terminal a space that does not break is a space."""
    return printable(text.replace("\u00a0", " "))
