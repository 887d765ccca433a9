"""Images in Parquet files, in the layout of Hugging Face's `datasets`.

A column of images holds the content of their files, and one of labels their classes, whose names
are in the schema. Only the labels are read beforehand; images are read a group of rows at a time,
by their places: the order, the shares of the processes and a resumed run are as exact as with files
in folders. Reference: https://huggingface.co/docs/datasets, "About dataset features".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, get_args

import torch
from PIL import Image
from torch import Tensor

from vtrain.data.datasets.class_names import class_notes
from vtrain.data.datasets.folder_names import absent_classes, first_five, is_leftover
from vtrain.data.datasets.samples import Photographs, SplitName
from vtrain.data.labels import classes_present
from vtrain.data.progress import Progress
from vtrain.errors import DataError
from vtrain.files.images import decode_image
from vtrain.files.parquet import ParquetShard, RowGroups, open_shard
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES

LARGE_GROUP = 64 * 2**20
"""Bytes from which on a group of rows is large: it is read for each of its images."""
UNLABELLED = -1
"""What Hugging Face's own sets have for an image whose class is not published."""


@dataclass(frozen=True)
class ParquetSamples:
    """Images in groups of rows.

    Shape: `places` (N, 3) int64: which file, which group of its rows, which row of that; `rows`
    (N,) int64: the row within the file; `targets` (N,) int64.
    """

    shards: tuple[ParquetShard, ...]
    column: str
    places: Tensor
    rows: Tensor
    targets: Tensor
    groups: RowGroups
    ignored: ClassVar[Mapping[str, int]] = {}

    def __len__(self) -> int:
        return len(self.targets)

    def image(self, index: int) -> Image.Image:
        shard, group, row = self.places[index].tolist()
        content = self.groups.content(self.shards[shard].path, self.column, group, row)
        if content is None:
            hint = "write the images themselves into the file (embed_external_files)"
            raise DataError("the row holds no image, or its path alone", self.name(index), hint)
        return decode_image(content, self.name(index))

    def name(self, index: int) -> str:
        return f"{self.shards[int(self.places[index, 0])].path}:{int(self.rows[index])}"

    def key(self, index: int) -> str:
        return f"{self.shards[int(self.places[index, 0])].path.name}:{int(self.rows[index])}"

    def file(self, index: int) -> None:
        return None

    def stamps(self, indices: Tensor | None = None) -> Iterator[bytes]:
        for index in range(len(self)) if indices is None else indices.tolist():
            size = self.shards[int(self.places[index, 0])].size
            yield f"{self.key(index)}\0{size}\0".encode(errors="surrogateescape")

    def with_targets(self, targets: Tensor) -> "ParquetSamples":
        return replace(self, targets=targets)


@SOURCES.register("parquet")
class Parquet(Photographs):
    """Images in Parquet files as Hugging Face's `datasets` writes and its hub serves them.

    Labels are numbers that the schema names (`ClassLabel`), other numbers, or texts; the latter two
    are sorted. A list of them is several labels for an image. Files are looked for in `root`, else
    in the one folder in it that has some.

    Args:
        root: The folder of the files.
        train: The training files: a pattern.
        val: The validation files.
        test: The test files.
        image: The column of the images; null takes the only one there is.
        label: The column of the labels; null takes the only one there is.
        allow_empty: Whether the list of an image's labels may be empty.

    Raises:
        DataError: A file is absent, damaged or of another layout, or an image has no class.
        ConfigError: The package that reads Parquet is not installed.
    """

    def __init__(
        self,
        *,
        root: Annotated[Path, CHANGEABLE_ON_RESUME],
        train: Annotated[str, CHANGEABLE_ON_RESUME] = "train*.parquet",
        val: Annotated[str, CHANGEABLE_ON_RESUME] = "val*.parquet",
        test: Annotated[str, CHANGEABLE_ON_RESUME] = "test*.parquet",
        image: str | None = None,
        label: str | None = None,
        allow_empty: Annotated[bool, CHANGEABLE_ON_RESUME] = False,
    ) -> None:
        self.root, self.origin = root, root
        self.patterns: dict[SplitName, str] = {"train": train, "val": val, "test": test}
        self.image, self.label, self.allow_empty = image, label, allow_empty
        self._opened: dict[SplitName, tuple[ParquetShard, ...]] = {}
        self._read: dict[SplitName, ParquetSamples] = {}

    @cached_property
    def splits(self) -> tuple[SplitName, ...]:
        return tuple(name for name in get_args(SplitName) if self._paths(name))

    @property
    def notes(self) -> tuple[str, ...]:
        """What looks odd; complete once the splits have been read."""
        absent = [
            note
            for name, samples in self._read.items()
            for note in absent_classes(
                name,
                self.classes,
                {self.classes[k] for k in classes_present(samples.targets).tolist()},
            )
        ]
        return (*class_notes(self.classes), *absent, *self._large_groups())

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of the schema, else what the training labels are."""
        first = (*self.splits, "train")[0]
        if (names := self._shards(first)[0].names) is not None:
            return names
        # What is only evaluated has no split that knows all.
        known = [first] if first == "train" else self.splits
        shards = [shard for name in known for shard in self._shards(name)]
        labels = {label for shard in shards for label in shard.each() if label is not None}
        # Numbers by their size, and texts by their letters; a column has one kind alone.
        return tuple(map(str, sorted(labels, key=lambda label: (isinstance(label, str), label))))

    def split(self, name: SplitName) -> ParquetSamples:
        """Return the images of one split.

        Raises:
            DataError: There are no such files, or an image has no class that training knows.
        """
        if name not in self._read:
            self._read[name] = self._samples(name)
        return self._read[name]

    def _samples(self, name: SplitName) -> ParquetSamples:
        shards = self._shards(name)
        numbers: dict[object, int] = {label: k for k, label in enumerate(self.classes)}
        targets: list[Tensor] = []
        places: list[Tensor] = []
        rows: list[Tensor] = []
        for number, shard in enumerate(shards):
            targets.append(self._targets(shard, numbers))
            for group, count in enumerate(shard.group_rows):
                row = torch.arange(count)
                places.append(torch.stack([row * 0 + number, row * 0 + group, row], dim=1))
            rows.append(torch.arange(len(shard.labels)))
        if not sum(map(len, targets)):
            raise DataError(f"the {name} files hold no rows", self.root)
        columns = (torch.cat(places), torch.cat(rows), torch.cat(targets))
        return ParquetSamples(shards, shards[0].image, *columns, RowGroups())

    def _targets(self, shard: ParquetShard, numbers: dict[object, int]) -> Tensor:
        """Return the classes of a file's rows as numbers. Shape: (n,) int64 or (n, K) float32."""
        if not shard.has_several:
            targets = [self._target(label, shard, numbers) for label in shard.labels]
            return torch.tensor(targets, dtype=torch.int64)
        several = torch.zeros(len(shard.labels), len(numbers))
        for row, labels in enumerate(shard.labels):
            if not labels and not self.allow_empty:
                hint = "data.allow_empty=true takes them as images of no class"
                raise DataError(f"row {row} has no label", shard.path, hint)
            chosen = [self._target(label, shard, numbers) for label in labels or ()]
            if len(set(chosen)) < len(chosen):
                raise DataError(f"row {row} has a label twice: {labels}", shard.path)
            several[row, chosen] = 1
        return several

    def _target(
        self, label: int | str | None, shard: ParquetShard, numbers: dict[object, int]
    ) -> int:
        """Return the number of the class that a label stands for."""
        if label is None or (shard.names is not None and label == UNLABELLED):
            hint = "they were published without: such a split can be predicted, and not evaluated"
            raise DataError("there are images without a label", shard.path, hint)
        if shard.names is not None:
            known = isinstance(label, int) and 0 <= label < len(shard.names)
            label = shard.names[int(label)] if known else label
        if str(label) not in numbers:
            what = f"class '{label}' is not one of the {len(numbers)} of the training images"
            raise DataError(what, shard.path, "classes are matched by name")
        return numbers[str(label)]

    def _shards(self, name: SplitName) -> tuple[ParquetShard, ...]:
        if name not in self._opened:
            paths = self._paths(name)
            if not paths:
                raise self._none(name)
            with Progress(f"reading labels of {name} files", "files", len(paths)) as progress:
                opened = []
                for path in paths:
                    opened.append(open_shard(path, self.image, self.label))
                    progress.add(1)
            shards = tuple(opened)
            odd = next((s for s in shards if s.layout != shards[0].layout), None)
            if odd is not None:
                what = f"it has other columns or class names than {shards[0].path.name}"
                raise DataError(what, odd.path, f"data.{name} is the pattern of the files")
            self._opened[name] = shards
        return self._opened[name]

    def _none(self, name: SplitName) -> DataError:
        others = sorted(path.name for path in self.root.rglob("*.parquet"))
        hint = f"data.{name} is their pattern"
        hint += f"; there is {first_five(others)}" if others else ""
        if name == "val":
            hint += "; or set data.val_fraction, e.g. 0.1"
        return DataError(f"there are no files '{self.patterns[name]}'", self.root, hint)

    def _paths(self, name: SplitName) -> list[Path]:
        """Return the files of a split, in the order of their names.

        Raises:
            DataError: Several folders have some.
        """
        pattern = self.patterns[name]
        here = sorted(path for path in self.root.glob(pattern) if not is_leftover(path.name))
        if here:
            return here
        below = sorted(
            path for path in self.root.glob(f"*/{pattern}") if not is_leftover(path.name)
        )
        folders = sorted({path.parent.name for path in below})
        if len(folders) > 1:
            what = f"several folders have files '{pattern}': {first_five(folders)}"
            raise DataError(what, self.root, f"name one, as data.root={self.root / folders[0]}")
        return below

    def _large_groups(self) -> Iterator[str]:
        """Say where each image costs the reading of many."""
        largest = max(
            (s.largest_group for shards in self._opened.values() for s in shards), default=0
        )
        if largest > LARGE_GROUP:
            yield (
                f"a group of rows has up to {largest / 2**20:,.0f} MiB, which is read for each "
                "image of it: files with smaller groups (row_group_size=100) are read faster"
            )
