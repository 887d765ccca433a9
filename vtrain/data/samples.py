"""What every dataset looks like to the rest of vtrain: a source with splits of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from PIL import Image
from torch import Tensor

from vtrain.files.images import read_image

SplitName: TypeAlias = Literal["train", "val"]
Triple: TypeAlias = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Samples(Protocol):
    """The images of one split, in a fixed order, with their classes."""

    @property
    def targets(self) -> Tensor:
        """The class of each sample. Shape: (N,), int64."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """Read one image, as RGB.

        Raises:
            DataError: It cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """What to call the sample in messages and reports: its path, where it has one."""
        ...


class Source(Protocol):
    """A dataset: its classes, the statistics of its pixels, and its splits.

    `classes`, `mean` and `std` are known without reading an image.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def mean(self) -> Triple:
        """Per channel, of pixels scaled to [0, 1]."""
        ...

    @property
    def std(self) -> Triple: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should be told once: what was converted, ignored or missing."""
        ...

    def split(self, name: SplitName) -> Samples: ...


@dataclass(frozen=True)
class ArraySamples:
    """Decoded images of one size, held as one tensor.

    Shape: `array` (N, 3, H, W) uint8, `targets` (N,) int64.
    """

    array: Tensor
    targets: Tensor
    label: str

    def __len__(self) -> int:
        return len(self.array)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index].permute(1, 2, 0).contiguous().numpy())

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"


@dataclass(frozen=True)
class FileSamples:
    """Image files below `root`, decoded when they are asked for."""

    root: Path
    paths: Sequence[str]  # relative to root, as strings: a million Paths would take a gigabyte
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        return read_image(self.root / self.paths[index])

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])


@dataclass(frozen=True)
class Subset:
    """Some of the samples. Shape: `indices`, `targets` (n,) int64."""

    samples: Samples
    indices: Tensor
    targets: Tensor

    @classmethod
    def of(cls, samples: Samples, indices: Tensor) -> "Subset":
        """Take the samples at `indices`."""
        return cls(samples, indices, samples.targets[indices])

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Image.Image:
        return self.samples.image(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.samples.name(int(self.indices[index]))
