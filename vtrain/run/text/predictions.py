"""Predictions as a person, a program or a spreadsheet reads them, line by line as they come."""

import json
import textwrap
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

from vtrain.errors import ConfigError, VtrainError, printable
from vtrain.inference.files import Prediction
from vtrain.report.plain import csv_text

Form = Literal["table", "json", "jsonl", "csv"]
ENDINGS: dict[str, Form] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "table",
    ".log": "table",
    "": "table",
}
"""The form that a file is written in by its name."""
BETWEEN = "; "
"""What stands between several values in one cell of a spreadsheet."""


def form_of(output: Path | None, form: Form | None) -> Form:
    """Return the form to write in: the one that is asked for, else the one of the file's ending.

    Raises:
        ConfigError: No form has that ending, or another one is asked for.
    """
    if output is None:
        return form or "table"
    ending = output.suffix.lower()
    by_name = ENDINGS.get(ending)
    if by_name is None:
        hint = "name it .csv (which spreadsheets open), .json, .jsonl or .txt"
        raise ConfigError(f"predictions are not written as {ending}", output, hint)
    # A name in .txt promises nothing, so that any form may be asked for.
    if form not in (None, by_name) and by_name != "table":
        what = f"--format {form} is not what a name in {ending} promises"
        raise ConfigError(what, output, "leave out --format, or give the file another ending")
    return form or by_name


class Record(Protocol):
    """What has a form as JSON."""

    def to_dict(self) -> dict[str, Any]: ...


def prediction_lines(
    predictions: Iterable[Prediction], form: Form, *, sets: bool = False
) -> Iterator[str]:
    """Yield the text of predictions, whole lines at a time.

    Args:
        predictions: Each is asked for only once the text of the one before has been taken.
        form: How it is written.
        sets: Whether each names as many classes as it takes, and not equally many.
    """
    if form == "csv":
        yield from _csv(predictions, sets)
    elif form in ("json", "jsonl"):
        yield from json_lines(predictions, form)
    else:
        yield from ("\n".join(_table_rows(prediction)) for prediction in predictions)


def json_lines(records: Iterable[Record], form: Form) -> Iterator[str]:
    """Yield records as one list, or as an object a line.

    What of a list has come before an error is closed, and so can be read.
    """
    if form == "jsonl":
        yield from (json.dumps(record.to_dict()) for record in records)
        return
    yield "["
    last = None
    try:
        for record in records:
            # Held back until another one follows: the last of a list has no comma.
            if last is not None:
                yield last + ","
            last = textwrap.indent(json.dumps(record.to_dict(), indent=2), "  ")
    except VtrainError:
        yield f"{last or ''}\n]"
        raise
    yield "]" if last is None else f"{last}\n]"


def _table_rows(prediction: Prediction) -> Iterator[str]:
    # Names come from files and folders, and must not move the cursor of a terminal.
    yield printable(prediction.image)
    if prediction.error is not None:
        yield f"  error: {prediction.error}"
    yield from (f"  {p:7.2%}  {printable(name)}" for name, p in prediction.classes)
    if prediction.has_several and not prediction.classes:
        yield "  no label"
    if prediction.unsure:
        yield "  unsure"


def _csv(predictions: Iterable[Prediction], sets: bool) -> Iterator[str]:
    """Yield a head and a row for each image, all of as many columns.

    How many that are is known by the first image that could be read: those before it wait.
    """
    coming = iter(predictions)
    waiting: list[Prediction] = []
    for prediction in coming:
        waiting.append(prediction)
        if prediction.error is None:
            break
    if waiting and waiting[-1].has_several:
        yield csv_line(["image", "classes", "probabilities", "error"])
        yield from (csv_line(_label_cells(prediction)) for prediction in chain(waiting, coming))
        return
    count = 1 if sets or not waiting else max(1, len(waiting[-1].classes))
    # What nobody asked for would be a column of empty cells.
    asked = bool(waiting) and waiting[-1].unsure is not None
    others = [f"{name}_{rank}" for rank in range(2, count + 1) for name in ("class", "probability")]
    head = ["image", "class", "probability", *others, *["classes"] * sets, "error"]
    yield csv_line([*head, *["unsure"] * asked])
    for prediction in chain(waiting, coming):
        yield csv_line(_cells(prediction, count, sets, asked))


def _cells(prediction: Prediction, count: int, sets: bool, asked: bool) -> list[object]:
    ranked = prediction.classes[:count]
    cells: list[object] = [prediction.image]
    for name, probability in ranked:
        cells += [name, f"{probability:.6f}"]
    cells += [""] * 2 * (count - len(ranked))
    if sets:
        cells.append(BETWEEN.join(name for name, _ in prediction.classes))
    cells.append(prediction.error or "")
    return [*cells, str(bool(prediction.unsure)).lower()] if asked else cells


def _label_cells(prediction: Prediction) -> list[object]:
    names = BETWEEN.join(name for name, _ in prediction.classes)
    probabilities = BETWEEN.join(f"{p:.6f}" for _, p in prediction.classes)
    return [prediction.image, names, probabilities, prediction.error or ""]


def csv_line(cells: Iterable[object]) -> str:
    """Return cells as one line of a spreadsheet's file."""
    return csv_text(cells, ()).rstrip("\n")
