"""Images in tar files, in the layout of WebDataset: `000017.jpg` beside `000017.cls`.

The shards are indexed, not streamed: every image keeps its place, so that the order, the shares of
the processes and a resumed run are as exact as with files in folders. Shards on a server are
downloaded first. Reference: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import torch
from PIL import Image
from torch import Tensor

from vtrain.data.datasets.class_names import alike, class_notes, read_names
from vtrain.data.datasets.folder_names import absent_classes, first_five, is_leftover
from vtrain.data.datasets.samples import Paths, Photographs, SplitName
from vtrain.data.datasets.tar_index import Index
from vtrain.data.progress import Progress
from vtrain.errors import DataError
from vtrain.files.downloads import download, download_lock
from vtrain.files.images import decode_image
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES


@dataclass(frozen=True)
class TarSamples:
    """Images inside tar files.

    Shape: `places` (N, 3) int64: which file, the offset in it, bytes; `targets` (N,) int64.
    """

    shards: tuple[Path, ...]
    keys: Paths
    places: Tensor
    targets: Tensor
    ignored: ClassVar[Mapping[str, int]] = {}

    def __len__(self) -> int:
        return len(self.targets)

    def image(self, index: int) -> Image.Image:
        # Opened for each image: an open file would be shared by forked workers, position included.
        shard, offset, size = self.places[index].tolist()
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", self.name(index)) from None
        return decode_image(content, self.name(index))

    def name(self, index: int) -> str:
        return f"{self.shards[int(self.places[index, 0])]}:{self.keys[index]}"

    def key(self, index: int) -> str:
        return self.keys[index]  # whatever shard it is packed in

    def file(self, index: int) -> None:
        return None

    def stamps(self, indices: Tensor | None = None) -> Iterator[bytes]:
        for index in range(len(self)) if indices is None else indices.tolist():
            yield f"{self.name(index)}\0".encode(errors="surrogateescape")

    def with_targets(self, targets: Tensor) -> "TarSamples":
        return replace(self, targets=targets)


@SOURCES.register("webdataset")
class WebDataset(Photographs):
    """Images in tar shards: `key.jpg` (or another format) beside `key.cls`, the class.

    A class is a number or a name. If all classes of the training images are numbers, they are
    sorted as numbers, else as text, and validation images are understood in the same way. Files
    whose names begin with a dot are passed over.

    Args:
        root: The folder of the shards, also of those that are downloaded.
        train: The training shards: a pattern such as `train-*.tar`, or a URL, in either of which
            `{0000..0099}` stands for a row of numbers.
        val: The validation shards.
        test: The test shards.
        classes: A text file with one class name per line, for classes that are numbers.
        first_class: The number that the first of these lines stands for.
        download: Whether to fetch shards at a URL that are not in `root`.

    Raises:
        DataError: A shard is absent or damaged, or an image has no class.
        ValueError: `first_class` is given without `classes`.
    """

    def __init__(
        self,
        *,
        root: Annotated[Path, CHANGEABLE_ON_RESUME],
        train: Annotated[str, CHANGEABLE_ON_RESUME] = "train*.tar",
        val: Annotated[str, CHANGEABLE_ON_RESUME] = "val*.tar",
        test: Annotated[str, CHANGEABLE_ON_RESUME] = "test*.tar",
        classes: Annotated[Path | None, CHANGEABLE_ON_RESUME] = None,
        first_class: Literal[0, 1] = 0,
        download: Annotated[bool, CHANGEABLE_ON_RESUME] = False,
    ) -> None:
        if first_class and classes is None:
            raise ValueError(f"first_class ({first_class}) counts the lines of classes: name both")
        self.root, self.download, self.origin = root, download, root
        self.patterns: dict[SplitName, str] = {"train": train, "val": val, "test": test}
        self.file, self.first_class = classes, first_class
        self._indexes: dict[SplitName, Index] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What looks odd, and what was passed over in the shards that have been read."""
        indexes = self._indexes.items()
        of_shards = [note for _, index in indexes for note in index.notes()]
        absent = [note for name, index in indexes for note in self._absent(name, index)]
        return (*class_notes(self.classes), *self._numbers(), *of_shards, *absent)

    @cached_property
    def splits(self) -> tuple[SplitName, ...]:
        patterns = self.patterns.items()
        return tuple(n for n, pattern in patterns if self._is_address(n) or self._paths(pattern))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(dict.fromkeys(self._names.values()))

    @cached_property
    def _names(self) -> dict[str | int, str]:
        """A label as it is written, or its number, -> the name of the class; in their order.

        Whether labels are numbers is decided here once, from the training images: validation may
        happen to hold the digits alone.
        """
        # Shards of validation alone are enough for `vtrain eval`, which goes by names.
        labels = set(self._index(self._first).labels)
        if self._first != "train":
            there = [name for name in self.splits if self._paths(self.patterns[name])]
            labels.update(label for name in there for label in self._index(name).labels)
        if not all(label.isdecimal() for label in labels):
            if self.file is not None:
                word = next(label for label in sorted(labels) if not label.isdecimal())
                what = f"data.classes names numbers, and an image's class is '{word}'"
                raise DataError(what, self.file, "leave data.classes out")
            return {label: label for label in sorted(labels)}
        if self.file is None:
            # A number is called as it is written, 007, unless that differs between images.
            ordered = sorted(labels, key=lambda label: (int(label), len(label), label))
            spelt: dict[str | int, str] = {}
            for label in ordered:
                spelt.setdefault(int(label), label)
            return spelt
        return dict(enumerate(read_names(self.file), self.first_class))

    @property
    def _numeric(self) -> bool:
        """Whether labels are numbers, whatever a validation image's label looks like."""
        return isinstance(next(iter(self._names)), int)

    def _numbers(self) -> Iterator[str]:
        """Say which numbers are classes, where that is not 0 and all that follow."""
        if not self._numeric or self.file is not None:
            return
        numbers = [int(number) for number in self._names]
        if numbers != list(range(len(numbers))):
            first, last = self.classes[0], self.classes[-1]
            yield f"classes are the {len(numbers)} numbers that occur, from {first} to {last}"
        spelt = set(self._index(self._first).labels) - set(self.classes)
        if spelt:
            label = min(spelt)
            yield f"label '{label}' is the same number, and class, as '{self._names[int(label)]}'"

    @property
    def _first(self) -> SplitName:
        """The split that the classes are taken from."""
        return (*self.splits, "train")[0]

    def split(self, name: SplitName) -> TarSamples:
        """Return the images of one split.

        Raises:
            DataError: There are no such shards, or one holds a class that training has not.
        """
        index = self._index(name)
        places = {name: number for number, name in enumerate(self.classes)}
        # Once for each label, as there may be a million images.
        numbers = {label: places[self._class_of(label, name)] for label in set(index.labels)}
        targets = [numbers[label] for label in index.labels]
        return TarSamples(
            index.shards,
            Paths(index.keys),
            torch.tensor(index.places, dtype=torch.int64),
            torch.tensor(targets, dtype=torch.int64),
        )

    def _class_of(self, label: str, split: SplitName) -> str:
        """Return the name of the class that a label stands for."""
        key = int(label) if self._numeric and label.isdecimal() else label
        if key in self._names:
            return self._names[key]
        if self.file is None:
            near = next((name for name in self.classes if alike(name) == alike(label)), None)
            raise DataError(
                f"class '{label}' of the {split} images is not in train",
                self.root,
                "classes are matched by name" + (f": did you mean '{near}'?" if near else ""),
            )
        last = self.first_class + len(self._names) - 1
        other = 1 - self.first_class
        hint = "give every number a line" + (
            f", or set data.first_class={other} if numbers count from {other}"
            if key == (last + 1 if other else 0)
            else ""
        )
        what = f"class {label} of an image has no name: the lines are {self.first_class} to {last}"
        raise DataError(what, self.file, hint)

    def _absent(self, split: SplitName, index: Index) -> Iterator[str]:
        """Say which classes have no images."""
        present = {self._class_of(label, split) for label in set(index.labels)}
        yield from absent_classes(split, self.classes, present)

    def _index(self, name: SplitName) -> "Index":
        if name not in self._indexes:
            shards = self._shards(name)
            index = Index(tuple(shards))
            with Progress(f"listing images in {name} shards", "files") as progress:
                for number in range(len(shards)):
                    index.add(number, progress)
            if not index.keys:
                hint = "; ".join(index.notes()) or None
                raise DataError(f"the {name} shards hold no images", self.root, hint)
            self._indexes[name] = index
        return self._indexes[name]

    def _shards(self, name: SplitName) -> list[Path]:
        """Return the files that a split's pattern stands for, downloaded if they may be."""
        pattern = self.patterns[name]
        if self._is_address(name):
            return [self._local(url) for url in expanded(pattern)]
        if paths := self._paths(pattern):
            return paths
        # What a person sees in the folder, and no pattern does: compressed, or of another name.
        others = {path for known in self.patterns.values() for path in self._paths(known)}
        near = self._paths(f"{pattern}.*") + self._paths("*.[Tt][Aa][Rr]")
        names = [path.name for path in near if path not in others]
        hint = f"data.{name} is their pattern" + (
            f"; there is {first_five(names)}" if names else ""
        )
        if name == "val" and not names:
            hint += "; or set data.val_fraction, e.g. 0.1"
        raise DataError(f"there are no shards '{pattern}'", self.root, hint)

    def _is_address(self, name: SplitName) -> bool:
        """Whether a split's shards are on a server."""
        return "://" in self.patterns[name] or self.patterns[name].startswith("pipe:")

    def _paths(self, pattern: str) -> list[Path]:
        paths = {path for part in expanded(pattern) for path in self.root.glob(part)}
        return sorted(path for path in paths if not is_leftover(path.name))

    def _local(self, url: str) -> Path:
        # WebDataset also runs commands ("pipe:..."); nothing is ever executed here.
        parts = urlsplit(url)
        name = Path(parts.path).name
        if parts.scheme not in {"http", "https"} or not name.endswith(".tar"):
            raise DataError("not the address of a shard", url, "expected https://.../NAME.tar")
        target = self.root / name
        if target.exists():
            return target
        if not self.download:
            raise DataError("the shard is not there", target, "set data.download=true")
        with download_lock(self.root):
            if not target.exists():  # another process may have fetched it meanwhile
                download(url, target)
        return target


def expanded(pattern: str) -> list[str]:
    """Replace the first `{0000..0099}` by each of its numbers, with its leading zeros.

    >>> expanded("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    row = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if row is None:
        return [pattern]
    first, last = row.groups()
    before, after = pattern[: row.start()], pattern[row.end() :]
    return [f"{before}{n:0{len(first)}}{after}" for n in range(int(first), int(last) + 1)]
