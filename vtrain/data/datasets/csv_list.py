"""Images named in a CSV file."""

import csv
from pathlib import Path

import torch

from vtrain.data.datasets.samples import FileSamples, Paths, Photographs, SplitName
from vtrain.errors import DataError
from vtrain.registry import SOURCES

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What may stand in the column `split`."""
HEADER = "the first line must name the columns: path,label or path,label,split"


@SOURCES.register("csv")
class CsvList(Photographs):
    """Images listed in a CSV file with the columns `path`, `label` and, if you like, `split`.

    Classes are the labels of the training images, in the order of their text. Without a column
    `split`, set `val_fraction` or `fold`.

    Args:
        file: The list, in UTF-8.
        root: The folder that the paths are relative to; by default the list's own.

    Raises:
        DataError: The list cannot be read, or a line is not as described.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, *, file: Path, root: Path | None = None) -> None:
        self.file, self.root = file, file.parent if root is None else root
        self._rows = _read(file)
        # A list of test images alone is enough for `vtrain eval`.
        first = self._rows.get("train") or self._rows.get("val") or self._rows["test"]
        self.classes = tuple(sorted({label for _, label in first}))

    def split(self, name: SplitName) -> FileSamples:
        """Return the images of one split.

        Raises:
            DataError: The list has no such images, or classes that training has not.
        """
        rows = self._rows.get(name)
        if rows is None and name == "val":  # without validation images, the test images are used
            rows = self._rows.get("test")
        if rows is None:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else None
            raise DataError(f"the list has no {name} images", self.file, hint)
        if name == "train" and len(self.classes) < 2:
            what = f"there is only one class, '{self.classes[0]}'"
            raise DataError(what, self.file, "training needs two")
        numbers = {label: number for number, label in enumerate(self.classes)}
        unknown = next((label for _, label in rows if label not in numbers), None)
        if unknown is not None:
            raise DataError(f"class '{unknown}' of the {name} images is not in train", self.file)
        targets = torch.tensor([numbers[label] for _, label in rows], dtype=torch.int64)
        return FileSamples(self.root, Paths(path for path, _ in rows), targets)


def _read(file: Path) -> dict[SplitName, list[tuple[str, str]]]:
    """Return the (path, label) pairs of each split."""
    rows: dict[SplitName, list[tuple[str, str]]] = {}
    try:
        # Spreadsheets write a byte order mark first; the csv module splits lines by itself.
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = set(reader.fieldnames or ())
            if not {"path", "label"} <= columns <= {"path", "label", "split"}:
                raise DataError("the list has other columns", file, HEADER)
            for row in reader:
                where = f"{file}:{reader.line_num}"
                # The csv module puts surplus values under None and fills missing ones with None.
                if None in row or None in row.values() or not (row["path"] and row["label"]):
                    raise DataError("a line must have a value for each column", where)
                split = SPLIT_NAMES.get(row.get("split", "train").strip().lower())
                if split is None:  # a misspelt one must not lose images in silence
                    allowed = ", ".join(SPLIT_NAMES)
                    raise DataError(f"unknown split '{row['split']}'", where, f"one of {allowed}")
                rows.setdefault(split, []).append((row["path"], row["label"]))
    except OSError as error:
        raise DataError(f"cannot read the list of images: {error.strerror}", file) from None
    except UnicodeDecodeError:
        raise DataError("the list of images is not UTF-8 text", file) from None
    except csv.Error as error:
        raise DataError(f"the list of images is not CSV: {error}", file) from None
    if not rows:
        raise DataError("the list names no images", file, HEADER)
    return rows
