"""The pictures of the README: the screen of a run on a folder of photographs, and what came of it.

`scripts/pictures PHOTOS` trains as the README says, and draws both from what that run printed and
left behind. They are SVG: text that can be searched, in a few kilobytes.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from vtrain.report.metrics import confusion_matrix
from vtrain.report.predictions import Predictions
from vtrain.report.scores import Array

FOLDER = Path("docs/pictures")
COLUMNS = 100
WIDE, HIGH, MARGIN = 7.25, 17, 14
"""Pixels of a character, of a line, and around the text."""
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
SHOWN = 2
"""Lines of epochs that are shown at the beginning and at the end of a run."""
CELL, NAMES = 46, 150
"""Pixels per side of a class in the picture of mistakes, and of the names beside it."""


def main() -> None:
    """Train, and write the pictures."""
    photos = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / photos.name).symlink_to(photos)
        command = [sys.executable, "-m", "vtrain", "fit", photos.name]
        environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True, check=True
        )
        (kept,) = root.glob("runs/*/*/predictions.npz")
        predictions = Predictions.load(kept)
    FOLDER.mkdir(exist_ok=True)
    screen = done.stderr.replace(f"{root}/", "").splitlines()
    said = [f"$ vtrain fit {photos.name}", *shortened(screen)]
    (FOLDER / "run.svg").write_text(terminal(said), encoding="utf-8")
    matrix = confusion_matrix(predictions.scores())
    (FOLDER / "confusion.svg").write_text(mistakes(matrix, predictions.classes), encoding="utf-8")


def shortened(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a run; of those of epochs, and of photographs, the first and the last."""
    for kind, group in groupby(lines, lambda line: re.match(r"epoch |left out: |", line)[0]):  # type: ignore[index]
        members = list(group)
        if kind == "epoch " and len(members) > 2 * SHOWN:
            members[SHOWN:-SHOWN] = ["..."]
        yield from members


def terminal(lines: Sequence[str]) -> str:
    """Draw lines as a terminal shows them; those with a `$` in front were typed."""
    lines = [part for line in lines for part in wrapped(line)]
    width = round(COLUMNS * WIDE) + 2 * MARGIN
    height = len(lines) * HIGH + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + HIGH * (number + 0.75):g}"{style(line)}>'
        f"{html.escape(line)}</text>"
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-size="12" '
            f'font-family="{FONT}" fill="#d6deeb">',
            f"<title>{html.escape(lines[0].removeprefix('$ '))}</title>",
            "<style>text { white-space: pre }</style>",  # columns stay columns
            f'<rect width="{width}" height="{height}" rx="8" fill="#16181d"/>',
            *rows,
            "</svg>\n",
        ]
    )


def style(line: str) -> str:
    return ' fill="#ffffff" font-weight="bold"' if line.startswith("$ ") else ""


def wrapped(line: str) -> list[str]:
    """Cut a line where a terminal would."""
    return [line[i : i + COLUMNS] for i in range(0, len(line), COLUMNS)] or [""]


def mistakes(matrix: Array, classes: Sequence[str]) -> str:
    """Draw a matrix of counts: a row for each true class, a column for what it was taken for."""
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))  # (K, K)
    count = len(classes)
    width, height = NAMES + count * CELL + 120, count * CELL + 110
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" font-size="12" '
        'font-family="system-ui, sans-serif" fill="#333333">',
        "<title>held-out photographs: true classes in rows, predicted ones in columns</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for row, name in enumerate(classes):
        y = 14 + row * CELL
        parts.append(
            f'<text x="{NAMES - 8}" y="{y + CELL / 2 + 4:g}" text-anchor="end">'
            f"{html.escape(name)}</text>"
        )
        for column in range(count):
            x, share = NAMES + column * CELL, shares[row, column]
            colour = "#1b7f4d" if row == column else "#c0392b"
            ink = "#ffffff" if share > 0.5 else "#333333"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" fill="{colour}" '
                f'fill-opacity="{max(0.04, share):.2f}"/>'
                f'<text x="{x + CELL / 2 - 1:g}" y="{y + CELL / 2 + 4:g}" text-anchor="middle" '
                f'fill="{ink}">{int(matrix[row, column])}</text>'
            )
    for column, name in enumerate(classes):
        x, y = NAMES + column * CELL + CELL / 2, 28 + count * CELL
        parts.append(
            f'<text transform="translate({x:g} {y}) rotate(35)">{html.escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
