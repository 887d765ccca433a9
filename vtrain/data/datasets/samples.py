"""What every dataset looks like to the rest of vtrain: a source with splits of samples."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from vtrain.data.normalise import to_image
from vtrain.errors import DataError
from vtrain.files.images import read_image

SplitName: TypeAlias = Literal["train", "val", "test"]
"""`val` is what training is evaluated on."""
Triple: TypeAlias = tuple[float, float, float]
Stamp: TypeAlias = bytes | memoryview

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
GREY = "grey images: the one channel is repeated three times, unless data.channels is 1"


class Samples(Protocol):
    """The images of one split, in a fixed order, with their classes.

    This is all that loading, splitting, `vtrain check --data` and the fingerprint of a dataset ask
    of them. `Subset` answers by the samples that it takes some of.
    """

    @property
    def targets(self) -> Tensor:
        """The class of each sample, or its classes; see `vtrain.data.labels`.

        Shape: (N,) int64 or (N, K) float32.
        """

    @property
    def ignored(self) -> Mapping[str, int]:
        """Ending -> other files that lie among the images, for the report on the dataset."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """Read one image: as RGB, or seen as RGB with the bands that it has.

        Raises:
            DataError: It cannot be read.
        """

    def name(self, index: int) -> str:
        """What to call the sample in messages and reports: its path, where it has one."""

    def key(self, index: int) -> str | None:
        """What the sample is called wherever the dataset lies: its path below the root.

        None if it is but a place in an array, which no other image can come before.
        """

    def file(self, index: int) -> str | None:
        """Return the path of the file that holds this image and nothing else, if there is one."""

    def stamps(self, indices: Tensor | None = None) -> Iterator[Stamp]:
        """Yield what changes when another image takes a sample's place, without reading files.

        Args:
            indices: Which samples, in this order; None is all. Shape: (n,) int64.
        """

    def with_targets(self, targets: Tensor) -> "Samples":
        """Return the same images with other classes. Shape: (N,) int64 or (N, K) float32."""


class Source(Protocol):
    """A dataset: its classes, the statistics of its pixels, and its splits.

    `classes`, `mean` and `std` are known without reading an image. This is all that is asked of a
    dataset; its constructor's keywords are its keys in YAML.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def mean(self) -> Triple:
        """Per channel, of pixels scaled to [0, 1]."""

    @property
    def std(self) -> Triple: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should be told once: what was converted, ignored or missing."""

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits that there are, in the order of `SplitName`."""

    def split(self, name: SplitName) -> Samples:
        """Return the images of a split.

        Raises:
            DataError: There is no such split, or it cannot be used.
        """


class Photographs:
    """A source of a user's own photographs: the statistics of its pixels are ImageNet's."""

    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    origin: Path
    """The folder or list to name where something is wrong with the training images."""

    def check_training(self, classes: tuple[str, ...]) -> None:
        """Refuse what can be evaluated, but nothing can be trained on.

        Raises:
            DataError: There is one class alone.
        """
        if len(classes) < 2:
            what = f"there is only one class, '{classes[0]}'"
            raise DataError(what, self.origin, "training needs two")


@dataclass(frozen=True)
class ArraySamples:
    """Decoded images of one size, held as one tensor.

    Shape: `array` (N, C, H, W) uint8, `targets` (N,) int64.
    """

    array: Tensor
    targets: Tensor
    label: str
    numbers: Tensor | None = None
    """Where the images come from a larger array: their places there. Shape: (N,) int64."""
    ignored: ClassVar[Mapping[str, int]] = {}

    def __len__(self) -> int:
        return len(self.array)

    def image(self, index: int) -> Image.Image:
        return to_image(self.array[index])

    def name(self, index: int) -> str:
        number = index if self.numbers is None else int(self.numbers[index])
        return f"{self.label}[{number}]"

    def key(self, index: int) -> None:
        return None

    def file(self, index: int) -> None:
        return None

    def stamps(self, indices: Tensor | None = None) -> Iterator[Stamp]:
        # The pixels themselves: they are in memory, and hashed in one go.
        array = self.array if indices is None else self.array[indices]
        yield array.contiguous().numpy().data

    def with_targets(self, targets: Tensor) -> "ArraySamples":
        return replace(self, targets=targets)


@dataclass(frozen=True)
class FileSamples:
    """Image files below `root`, decoded when they are asked for."""

    root: Path
    paths: "Paths"
    """Relative to `root`, or absolute."""
    targets: Tensor
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Ending -> other files that lie among the images."""

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        return read_image(self.name(index))

    def name(self, index: int) -> str:
        return os.path.join(self.root, self.paths[index])  # noqa: PTH118 - a Path takes far longer

    def key(self, index: int) -> str:
        return self.paths[index]

    def file(self, index: int) -> str:
        return self.name(index)

    def stamps(self, indices: Tensor | None = None) -> Iterator[Stamp]:
        # Path below the root, so that a dataset may be moved, and size: to read all takes too long.
        for index in range(len(self)) if indices is None else indices.tolist():
            try:
                size = os.stat(self.name(index)).st_size  # noqa: PTH116 - a Path takes twice as long
            except OSError:  # a broken link: whether that matters is the loader's policy
                size = -1
            yield f"{self.paths[index]}\0{size}\0".encode(errors="surrogateescape")

    def with_targets(self, targets: Tensor) -> "FileSamples":
        return replace(self, targets=targets)


def check_targets(targets: Tensor, num_classes: int, where: object) -> None:
    """Refuse classes that do not exist: on a GPU they would end the program without a reason.

    Raises:
        DataError: A class is outside of 0 .. `num_classes` - 1.
    """
    if len(targets) and not (targets.min() >= 0 and targets.max() < num_classes):
        wrong = targets[(targets < 0) | (targets >= num_classes)]
        raise DataError(
            f"class {int(wrong[0])} of an image is not in 0 .. {num_classes - 1} "
            f"({len(wrong)} images)",
            where,
        )


class Paths:
    """Many strings in little memory.

    A million `Path` objects take a gigabyte, and forked workers, which count references in them,
    would each come to hold a copy of any list of Python objects.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        # A file name is bytes, and need not be valid UTF-8.
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = b"".join(encoded)
        self._ends = np.fromiter(itertools.accumulate(map(len, encoded)), np.int64, len(encoded))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        index = range(len(self))[index]  # counts from the end below 0; IndexError beyond it
        # Path i lies between the end of the one before it and its own.
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._bytes[start : self._ends[index]])


@dataclass(frozen=True)
class Subset:
    """Some of the samples. Shape: `indices` (n,) int64, `targets` (n,) int64 or (n, K) float32."""

    samples: Samples
    indices: Tensor
    targets: Tensor

    @property
    def ignored(self) -> Mapping[str, int]:
        return self.samples.ignored

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Image.Image:
        return self.samples.image(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.samples.name(int(self.indices[index]))

    def key(self, index: int) -> str | None:
        return self.samples.key(int(self.indices[index]))

    def file(self, index: int) -> str | None:
        return self.samples.file(int(self.indices[index]))

    def stamps(self, indices: Tensor | None = None) -> Iterator[Stamp]:
        return self.samples.stamps(self.indices if indices is None else self.indices[indices])

    def with_targets(self, targets: Tensor) -> "Subset":
        return replace(self, targets=targets)


def subset(samples: Samples, indices: Tensor) -> Samples:
    """Take some of the samples; those of an array stay an array. Shape: indices (n,) int64."""
    if not isinstance(samples, ArraySamples):
        return Subset(samples, indices, samples.targets[indices])
    # A name says the place in the whole array, also of a part of a part.
    numbers = indices if samples.numbers is None else samples.numbers[indices]
    return ArraySamples(samples.array[indices], samples.targets[indices], samples.label, numbers)
