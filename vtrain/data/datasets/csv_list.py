"""Images named in a CSV file."""

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, get_args

from pydantic import Field

from vtrain.data.datasets.class_names import alike, class_notes
from vtrain.data.datasets.csv_labels import Labelling, labelling_of
from vtrain.data.datasets.folder_layout import DRIVE
from vtrain.data.datasets.folder_names import absent_classes, first_five, split_of
from vtrain.data.datasets.samples import FileSamples, Paths, Photographs, SplitName
from vtrain.data.progress import Progress
from vtrain.errors import DataError, printable
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES

HEADER = "the first line must name the columns: path,label or path,label,split"
COLUMNS = {"path", "label", "split"}
OTHER_SEPARATORS = ";\t|"
"""What a spreadsheet writes where numbers have commas, and what tools that avoid both write."""
Row = tuple[str, Any]
"""A path and a label, which the list's `Labelling` reads."""


@SOURCES.register("csv")
class CsvList(Photographs):
    """Images listed in a CSV file with the columns `path`, `label` and, if you like, `split`.

    Classes are the labels of the training images, in the order of their text. Blanks around a value
    do not count, nor does the Unicode form of a label. Without a column `split`, set `val_fraction`
    or `fold`. Between the values may also stand semicolons, tabs or `|`, as between the names of
    the columns.

    With `label_separator` or `label_columns` an image may have several classes, and with
    `allow_empty` none.

    Args:
        file: The list, in UTF-8.
        root: The folder that relative paths start from, by default the list's own. A path may also
            be absolute, or begin with `~`.
        label_separator: What stands between the labels of an image that has several: `cat;dog`.
        label_columns: Columns named after the classes, which say 1, 0, or a share between, in place
            of the column `label`; `all` takes every column but the path and the split.
        allow_empty: Whether an image may have no label at all, where it may have several.

    Raises:
        DataError: The list cannot be read, or a line is not as described.
        ValueError: Two of the keys contradict each other.
    """

    def __init__(
        self,
        *,
        file: Annotated[Path, CHANGEABLE_ON_RESUME],
        root: Annotated[Path | None, CHANGEABLE_ON_RESUME] = None,
        label_separator: Annotated[str, Field(min_length=1, max_length=8)] | None = None,
        label_columns: Annotated[list[str], Field(min_length=1)] | Literal["all"] | None = None,
        allow_empty: Annotated[bool, CHANGEABLE_ON_RESUME] = False,
    ) -> None:
        self.file, self.root = file, file.parent if root is None else root
        self.origin = file
        if root is not None and not root.is_dir():
            hint = "data.root is where the list's relative paths start"
            raise DataError("there is no such folder", root, hint)
        self._labelling = labelling_of(label_separator, label_columns, allow_empty)
        columns, self._rows = _read(file, self.root, self._labelling)
        # A list without training images is enough for `vtrain eval`.
        known: tuple[SplitName, ...] = ("train",) if "train" in self._rows else self.splits
        labels = (label for name in known for _, label in self._rows[name])
        self.classes = self._labelling.classes(columns, labels, file)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What looks odd about the list."""
        labels = (label for rows in self._rows.values() for _, label in rows)
        own = self._labelling.notes(labels)
        return (*class_notes(self.classes), *own, *self._absent(), *_repetitions(self._rows))

    @property
    def splits(self) -> tuple[SplitName, ...]:
        return tuple(name for name in get_args(SplitName) if name in self._rows)

    def split(self, name: SplitName) -> FileSamples:
        """Return the images of one split.

        Raises:
            DataError: The list has no such images, or classes that training has not.
        """
        rows = self._rows.get(name)
        if rows is None:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else None
            raise DataError(f"the list has no {name} images", self.file, hint)
        unknown = self._names(rows) - set(self.classes)
        if unknown:
            self._refuse(min(unknown), len(unknown), name)
        targets = self._labelling.targets([label for _, label in rows], self.classes)
        return FileSamples(self.root, Paths(path for path, _ in rows), targets)

    def _refuse(self, label: str, count: int, split: SplitName) -> None:
        near = next((name for name in self.classes if alike(name) == alike(label)), None)
        raise DataError(
            f"class '{label}' of the {split} images is not in train ({count} unknown)",
            self.file,
            "classes are matched by name" + (f": did you mean '{near}'?" if near else ""),
        )

    def _names(self, rows: list[Row]) -> set[str]:
        return {name for _, label in rows for name in self._labelling.names(label)}

    def _absent(self) -> Iterator[str]:
        """Say which classes a split lacks."""
        for split, rows in self._rows.items():
            yield from absent_classes(split, self.classes, self._names(rows))


QUOTES = "put quotes around a value with the list's own separator in it"
PACKED = printable("PK\x03\x04")
"""How the table of a spreadsheet begins, which is a zip file."""


def _read(
    file: Path, root: Path, labelling: Labelling
) -> tuple[Sequence[str], dict[SplitName, list[Row]]]:
    """Return the columns of the labels, and the path and the label of each line, by split."""
    rows: dict[SplitName, list[Row]] = {}
    lines = _lines(file, labelling)
    table = _table(next(lines, ("", []))[1], file, labelling)
    with Progress(f"reading {printable(file.name)}", "lines") as progress:
        for where, values in lines:
            split, row = _row(values, table, root, where)
            rows.setdefault(split, []).append(row)
            progress.add(1)
    if not rows:
        raise DataError("the list names no images", file, HEADER)
    return table.labels, rows


@dataclass(frozen=True)
class _Table:
    """Which columns a list has, and which of them hold the labels."""

    columns: list[str]
    labels: Sequence[str]
    labelling: Labelling


def _row(values: list[str], table: _Table, root: Path, where: str) -> tuple[SplitName, Row]:
    """Return the split of a line, and its path and label."""
    cells, columns, labelling = [value.strip() for value in values], table.columns, table.labelling
    row = dict(zip(columns, cells, strict=False))
    required = {"path", "split", *labelling.required} & set(columns)
    if len(cells) != len(columns) or not all(row[name] for name in required):
        hint = QUOTES if len(cells) > len(columns) else None
        raise DataError("a line must have a value for each column", where, hint)
    split = split_of(row.get("split", "train"))
    if split is None:  # a misspelt one must not lose images in silence
        hint = "write train, val or test, as the folders of splits may be called"
        raise DataError(f"unknown split '{row['split']}'", where, hint)
    label = labelling.read({name: row[name] for name in table.labels}, where)
    return split, (_path(row["path"], root, where), label)


def _head(text: TextIO) -> list[str]:
    """Return the first line that is not empty, behind as many empty ones as stand before it."""
    head = list[str]()
    while (line := text.readline()) and not line.strip():
        head.append("\n")  # not as it is: a tab in it would stand between two values
    return [*head, line]


def _separator(head: str, labelling: Labelling) -> str:
    """Return what stands between the values: a comma, unless the first line says otherwise."""
    marks = (mark for mark in OTHER_SEPARATORS if mark in head)
    return next((m for m in marks if _is_header(_names(head.split(m)), labelling)), ",")


def _is_header(columns: Collection[str], labelling: Labelling) -> bool:
    """Whether these may be the columns of a list."""
    return "path" in columns and (labelling.others or COLUMNS.issuperset(columns))


def _names(header: Iterable[str]) -> list[str]:
    """Return the names of columns, without blanks and quotes, and the usual ones in small letters.

    The others may be classes, whose capitals count.
    """
    names = [name.strip().strip('"') for name in header]
    return [name.lower() if name.lower() in COLUMNS else name for name in names]


def _lines(file: Path, labelling: Labelling) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the values of each line that is not empty."""
    try:
        # Spreadsheets write a byte order mark first; the csv module splits lines by itself.
        with file.open(encoding="utf-8-sig", newline="") as text:
            head = _head(text)
            mark = _separator(head[-1], labelling)
            lines = chain(head, text)
            reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=True)
            try:
                for values in reader:
                    if len(values) > 1 or any(map(str.strip, values)):
                        yield f"{file}:{reader.line_num}", values
            except csv.Error as error:
                where = f"{file}:{reader.line_num}"
                raise DataError(f"the list of images is not CSV: {error}", where) from None
    except OSError as error:
        raise DataError(f"cannot read the list of images: {error.strerror}", file) from None
    except UnicodeDecodeError:
        raise DataError("the list of images is not UTF-8 text", file, "save it as UTF-8") from None


def _table(header: list[str], file: Path, labelling: Labelling) -> _Table:
    """Return what the first line says."""
    columns = _names(header)
    labels = labelling.columns(columns, file) if _is_header(columns, labelling) else None
    if labels is None or len(set(columns)) < len(columns):
        found = printable(",".join(header))[:100] or "nothing"
        hint = HEADER
        if found.startswith(PACKED):
            what = "this is a packed file, such as Excel's, and no text"
            raise DataError(what, file, "save it as CSV, in UTF-8")
        if columns[:1] == [""]:
            hint = f"{HEADER}; pandas leaves out the numbers in front with index=False"
        raise DataError(f"the list has other columns: {found}", file, hint)
    return _Table(columns, labels, labelling)


def _path(path: str, root: Path, where: str) -> str:
    """Return the path of an image in this system's way, absolute or below the root."""
    if "://" in path:
        raise DataError("only local images are read", where, "download them first")
    drive = DRIVE.match(path)
    if drive and path[2:3] in ("/", "\\") and os.sep == "/" and not (root / path).exists():
        hint = (
            f"in WSL that drive is /mnt/{drive[1].lower()}; or write paths below the list's folder"
        )
        raise DataError("a path of Windows", where, hint)
    # Lists made on Windows. Here a backslash may also be a letter of a name, though hardly ever is.
    if "\\" in path and os.sep == "/" and not (root / path).exists():
        path = path.replace("\\", "/")
    return str(Path.home() / path[2:]) if path.startswith("~/") else path


def _repetitions(rows: dict[SplitName, list[Row]]) -> Iterator[str]:
    """Tell of images that are listed more than once: as the same, or as a contradiction."""
    seen: dict[str, tuple[SplitName, str]] = {}
    again: list[str] = []
    relabelled: list[str] = []
    leaked: list[str] = []
    for split, pairs in rows.items():
        for path, label in pairs:
            name = os.path.normpath(path)
            if name not in seen:
                seen[name] = (split, label)
                continue
            again.append(name)
            if seen[name][1] != label:
                relabelled.append(name)
            if seen[name][0] != split:
                leaked.append(name)
    for names, level, what in (
        (again, "", "more than once"),
        (relabelled, "warning: ", "with different labels"),
        (leaked, "warning: ", "in more than one split"),
    ):
        if names:
            count = "1 image is" if len(names) == 1 else f"{len(names):,} images are"
            yield f"{level}{count} listed {what}: {first_five(names)}"
