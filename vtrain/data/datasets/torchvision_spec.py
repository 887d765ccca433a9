"""How one of torchvision's datasets is described, and how its objects hold what they list."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vtrain.data.datasets.samples import IMAGENET_MEAN, IMAGENET_STD, SplitName, Triple

Listing: TypeAlias = tuple[Sequence[str | os.PathLike[str]], Sequence[int]]
"""Image files and their classes."""


@dataclass(frozen=True)
class OfficialSplit:
    """One official split: the arguments by which torchvision knows it, and how many images it has.

    The number is checked, because an extraction that was interrupted leaves a folder that
    torchvision takes for the dataset.
    """

    images: int
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One row of the table.

    Args:
        kind: The class in `torchvision.datasets`.
        folder: What must be below `root` if the dataset is there.
        splits: The official splits with labels.
        classes: Their names; empty where they are read from the dataset's own files.
        read: Takes the images, or the files, and the classes out of torchvision's object.
    """

    kind: str
    folder: str
    splits: dict[SplitName, OfficialSplit]
    classes: tuple[str, ...] = ()
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    notes: tuple[str, ...] = ()
    read: Callable[[Any], "Listing | tuple[Tensor, Tensor]"] = field(kw_only=True)


# Torchvision's objects have no common way to say what they list: each reader below knows one.


def read_array(dataset: Any) -> tuple[Tensor, Tensor]:
    """Return the images as one array: grey or colour, channels first or last.

    Shape: images (N, 3, H, W) uint8, classes (N,) int64.
    """
    array = torch.as_tensor(dataset.data)
    if array.ndim == 3:  # (N, H, W) -> (N, 3, H, W)
        array = array[:, None].expand(-1, 3, -1, -1)
    elif array.shape[1] != 3:  # (N, H, W, 3) -> (N, 3, H, W)
        array = array.permute(0, 3, 1, 2)
    # SVHN and STL10 call them `labels`.
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return array.contiguous(), torch.as_tensor(labels).long()


def read_emnist(dataset: Any) -> tuple[Tensor, Tensor]:
    """Read an array of EMNIST, whose files exchange rows and columns and count letters from 1."""
    array, targets = read_array(dataset)
    return array.transpose(2, 3).contiguous(), targets - int(dataset.split == "letters")


def read_pairs(name: str) -> Callable[[Any], Listing]:
    """Read an attribute that holds (path, class) pairs."""

    def read(dataset: Any) -> Listing:
        paths, targets = zip(*getattr(dataset, name), strict=True)
        return paths, targets

    return read


def read_lists(paths: str, targets: str) -> Callable[[Any], Listing]:
    """Read two attributes, one of paths and one of classes."""
    return lambda dataset: (getattr(dataset, paths), getattr(dataset, targets))


def read_caltech(folder: str, pattern: str) -> Callable[[Any], Listing]:
    """Read Caltech's numbered files: `pattern` makes a name of a class from 1 and a number."""

    def read(dataset: Any) -> Listing:
        paths = [
            Path(dataset.root, folder, dataset.categories[y], pattern.format(y + 1, index))
            for y, index in zip(dataset.y, dataset.index, strict=True)
        ]
        return paths, dataset.y

    return read


def read_inaturalist(dataset: Any) -> Listing:
    """Read (category, file name) pairs; a category has a folder."""
    categories, names = zip(*dataset.index, strict=True)
    folders = [Path(dataset.root, dataset.all_categories[c]) for c in categories]
    return [folder / name for folder, name in zip(folders, names, strict=True)], categories
