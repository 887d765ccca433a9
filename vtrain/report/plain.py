"""Results as rows, and as CSV for spreadsheets."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from vtrain.files.plain import plain

if TYPE_CHECKING:
    from vtrain.report.label_scores import PerLabel
    from vtrain.report.metrics import PerClass


def class_rows(classes: Sequence[str], figures: "PerClass | PerLabel") -> list[dict[str, Any]]:
    """Return a row for each class, the worst first."""
    columns = [field.name for field in dataclasses.fields(figures)]
    return [
        {"class": classes[k]} | {c: plain(getattr(figures, c)[k]) for c in columns}
        for k in figures.worst_first().tolist()
    ]


def csv_text(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Return lines of values with commas between them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([inert(cell) for cell in head])
    writer.writerows([inert(cell) for cell in row] for row in rows)
    return text.getvalue()


def inert(cell: object) -> object:
    """Keep a spreadsheet from running text that looks like a formula."""
    # The characters are those of OWASP's page on "CSV injection"; numbers are no text and stay.
    if isinstance(cell, str | PurePath) and str(cell).startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{cell}"
    return "" if cell is None else cell
