"""How a CSV list says which class, or which classes, each image has."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from vtrain.data.datasets.class_names import places, tidy
from vtrain.data.labels import PRESENT
from vtrain.errors import DataError, counted, printable
from vtrain.registry import suggest

Shares: TypeAlias = tuple[tuple[str, float], ...]
"""The classes of an image, each with its share: 1 but where the label itself is unsure."""
LONGEST_LABEL = 1000
"""Characters: a longer cell is no name, but perhaps the rest of a file behind a lone quote."""
OTHER_MARKS = ";|,/+"
"""What else stands between labels in lists."""


class Labelling(Protocol):
    """What a list says beside the path and the split of each image.

    A label is a class's name, or `Shares`; it is read by this alone.
    """

    required: ClassVar[tuple[str, ...]]
    """Columns whose cells may not be empty."""
    others: ClassVar[bool]
    """Whether the list may have columns of any name."""

    def columns(self, header: Sequence[str], file: Path) -> Sequence[str] | None:
        """Return the columns that hold the labels, or None if the list has none.

        Raises:
            DataError: One that the config names is missing.
        """

    def read(self, row: Mapping[str, str], where: str) -> Any:
        """Return the label that the cells of a line give.

        Raises:
            DataError: They give none.
        """

    def classes(self, columns: Sequence[str], labels: Iterable[Any], file: Path) -> tuple[str, ...]:
        """Return the classes of a list with these columns and labels, in order.

        Raises:
            DataError: The labels cannot be meant as they were read.
        """

    def names(self, label: Any) -> tuple[str, ...]:
        """Return the classes that an image with this label has."""

    def targets(self, labels: Sequence[Any], classes: tuple[str, ...]) -> Tensor:
        """Return the labels as numbers. Shape: n labels -> (n,) int64 or (n, K) float32."""

    def notes(self, labels: Iterable[Any]) -> Iterator[str]:
        """Say what is worth knowing about all labels."""


def labelling_of(
    label_separator: str | None,
    label_columns: list[str] | Literal["all"] | None,
    allow_empty: bool,
) -> Labelling:
    """Return what the keys of a list say about its labels.

    Raises:
        ValueError: Two of the keys contradict each other.
    """
    if label_separator is not None and label_columns is not None:
        raise ValueError("label_separator and label_columns exclude each other")
    if label_separator is not None:
        return Separated(allow_empty, label_separator)
    if label_columns is not None:
        return Columns(allow_empty, "all" if label_columns == "all" else tuple(label_columns))
    if allow_empty:
        raise ValueError("allow_empty is for label_separator or label_columns")
    return OneLabel()


class OneLabel:
    """The column `label` names the one class of an image."""

    required: ClassVar[tuple[str, ...]] = ("label",)
    others: ClassVar = False

    def columns(self, header: Sequence[str], file: Path) -> Sequence[str] | None:
        return ["label"] if "label" in header else None

    def read(self, row: Mapping[str, str], where: str) -> str:
        return class_of(row["label"], where)

    def classes(self, columns: Sequence[str], labels: Iterable[str], file: Path) -> tuple[str, ...]:
        return tuple(sorted(set(labels)))

    def names(self, label: str) -> tuple[str, ...]:
        return (label,)

    def targets(self, labels: Sequence[str], classes: tuple[str, ...]) -> Tensor:
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers[label] for label in labels], dtype=torch.int64)

    def notes(self, labels: Iterable[str]) -> Iterator[str]:
        yield from ()


@dataclass(frozen=True)
class SeveralLabels:
    """What lists of several labels an image have in common."""

    allow_empty: bool
    required: ClassVar[tuple[str, ...]] = ()

    def names(self, label: Shares) -> tuple[str, ...]:
        return tuple(name for name, share in label if share >= PRESENT)

    def targets(self, labels: Sequence[Shares], classes: tuple[str, ...]) -> Tensor:
        numbers = {name: number for number, name in enumerate(classes)}
        targets = torch.zeros(len(labels), len(classes))
        for row, label in enumerate(labels):
            for name, share in label:
                targets[row, numbers[name]] = share
        return targets

    def notes(self, labels: Iterable[Shares]) -> Iterator[str]:
        empty = soft = most = 0
        for label in labels:
            empty += not label
            soft += any(share < 1 for _, share in label)
            most = max(most, len(label))
        if most == 1:
            yield "no image has more than one label"
        if empty:
            yield f"{counted(empty, 'image')} without a label"
        if soft:
            yield f"{counted(soft, 'image')} with shares between 0 and 1 as labels"

    def none(self, where: str) -> Shares:
        """Return the label of an image that has none of the classes, if that may be."""
        if not self.allow_empty:
            hint = "data.allow_empty=true takes it as an image of no class"
            raise DataError("a line without a label", where, hint)
        return ()


@dataclass(frozen=True)
class Separated(SeveralLabels):
    """The column `label` names the classes of an image, with `separator` between them."""

    separator: str
    others: ClassVar = False

    def columns(self, header: Sequence[str], file: Path) -> Sequence[str] | None:
        return ["label"] if "label" in header else None

    def read(self, row: Mapping[str, str], where: str) -> Shares:
        cell = row["label"]
        if not cell:
            return self.none(where)
        names = [class_of(name, where) for name in cell.split(self.separator)]
        if not all(names):
            what = f"no label at one side of '{self.separator}' in '{printable(cell)[:60]}'"
            raise DataError(what, where, "write one there, or take the separator away")
        for name, count in Counter(names).items():
            if count > 1:
                raise DataError(f"label '{name}' stands twice", where, "write each once")
        return tuple((name, 1.0) for name in names)

    def classes(
        self, columns: Sequence[str], labels: Iterable[Shares], file: Path
    ) -> tuple[str, ...]:
        alone: Counter[str] = Counter()
        found: set[str] = set()
        is_separated = False
        for label in labels:
            is_separated = is_separated or len(label) > 1
            found.update(name for name, _ in label)
            alone.update(mark for name, _ in label for mark in OTHER_MARKS if mark in name)
        if alone and not is_separated:
            ((mark, count),) = alone.most_common(1)
            what = f"no label has '{self.separator}' in it, and {count:,} have '{mark}'"
            raise DataError(what, file, f'set data.label_separator to "{mark}"')
        return tuple(sorted(found))


@dataclass(frozen=True)
class Columns(SeveralLabels):
    """One column for each class says 1, 0, or a share between: `chosen`, or all that there are."""

    chosen: tuple[str, ...] | Literal["all"]
    others: ClassVar = True

    def columns(self, header: Sequence[str], file: Path) -> Sequence[str] | None:
        others = [name for name in header if name not in ("path", "split")]
        if self.chosen == "all":
            return others or None
        found, absent = places(self.chosen, others)
        if absent:
            what = f"the list has no column '{absent[0]}', which data.label_columns names"
            raise DataError(what, file, suggest(absent[0], others) if others else None)
        return [others[number] for number in found]

    def read(self, row: Mapping[str, str], where: str) -> Shares:
        shares = [(tidy(name), share_of(text, name, where)) for name, text in row.items()]
        return tuple((name, share) for name, share in shares if share > 0) or self.none(where)

    def classes(
        self, columns: Sequence[str], labels: Iterable[Shares], file: Path
    ) -> tuple[str, ...]:
        return tuple(tidy(name) for name in columns)


def class_of(label: str, where: str) -> str:
    """Return the name of a class.

    Raises:
        DataError: It is no line of text.
    """
    # Line breaks and other control characters, which no table or terminal could show.
    odd = any(unicodedata.category(letter) in {"Cc", "Zl", "Zp"} for letter in label)
    if odd or len(label) > LONGEST_LABEL:
        raise DataError(f"a label must be one line of text, not {label!r:.60}", where)
    return tidy(label)


def share_of(text: str, column: str, where: str) -> float:
    """Return how far an image has a class: 0, 1, or between.

    Raises:
        DataError: The cell says something else.
    """
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:  # also of NaN
        what = f"column '{column}' has '{printable(text)[:40]}', not 0 or 1"
        hint = "write 1 for an image that has the class, 0 for one that has not, or a share between"
        raise DataError(what, where, hint)
    return share
