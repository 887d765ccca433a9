"""Images in folders, one folder for each class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from vtrain.data.samples import IMAGENET_MEAN, IMAGENET_STD, FileSamples, SplitName, Triple
from vtrain.data.splits import stratified
from vtrain.errors import DataError
from vtrain.files.images import is_image_name
from vtrain.registry import SOURCES

LAYOUT = "expected <root>/train/<class>/*.jpg and <root>/val or /test, or <root>/<class>/*.jpg"
VAL_NAMES = ("val", "valid", "validation", "test")
"""Folders taken for the validation split; the first that exists is used."""


@SOURCES.register("image_folder")
class ImageFolder:
    """Your own images: `train/<class>/` beside `val/` or `test/`, or one folder of classes."""

    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    def __init__(
        self, *, root: Path, val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ) -> None:
        self.root, self.val_fraction = root, val_fraction
        self.folders = _split_folders(root)
        self.classes = _classes(self.folders["train"])
        self.notes: tuple[str, ...] = ()

    def split(self, name: SplitName) -> FileSamples:
        if "val" in self.folders and not (name == "train" and self.val_fraction):
            return self._samples(name)
        everything = self._samples("train")
        if not self.val_fraction:
            if name == "train":
                return everything
            raise DataError(
                "there is no validation split", self.root, "set data.val_fraction, e.g. 0.1"
            )
        train, val = stratified(everything.targets, self.val_fraction, seed=0)
        chosen = train if name == "train" else val
        return FileSamples(
            everything.root,
            [everything.paths[i] for i in chosen.tolist()],
            everything.targets[chosen],
        )

    def _samples(self, name: SplitName) -> FileSamples:
        folder = self.folders[name]
        found = _scan(folder)
        unknown = sorted(set(found) - set(self.classes))
        if unknown:
            raise DataError(
                f"class {unknown[0]!r} is in {folder.name} but not in train", folder / unknown[0]
            )
        empty = [c for c in self.classes if not found.get(c)]
        if name == "train" and empty:
            raise DataError(f"no images in class {', '.join(empty[:5])}", folder)
        paths = [path for c in self.classes for path in found.get(c, [])]
        targets = [i for i, c in enumerate(self.classes) for _ in found.get(c, [])]
        return FileSamples(folder, paths, torch.tensor(targets, dtype=torch.int64))


def _split_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError("no such dataset folder", root, LAYOUT)
    if not (root / "train").is_dir():
        return {"train": root}
    val = [root / name for name in VAL_NAMES if (root / name).is_dir()]
    return {"train": root / "train", **({"val": val[0]} if val else {})}


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not hidden(entry.name)
    )
    if not names:
        raise DataError("there are no class folders", folder, LAYOUT)
    return tuple(names)


def hidden(name: str) -> bool:
    """Whether a folder is a tool's leftover rather than a class."""
    return name.startswith((".", "__MACOSX"))


@dataclass
class _Walk:
    """Where a walk has been, so that a loop of links ends."""

    seen: set[str] = field(default_factory=set)

    def files(self, folder: str, prefix: str) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in self.seen:
            return
        self.seen.add(real)
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if hidden(entry.name):
                continue
            if entry.is_dir():
                yield from self.files(entry.path, f"{prefix}{entry.name}/")
            elif is_image_name(entry.name):
                yield prefix + entry.name


def _scan(folder: Path) -> dict[str, list[str]]:
    """Return the images of each class folder, as sorted paths relative to `folder`."""
    walk = _Walk()
    return {
        entry.name: list(walk.files(entry.path, entry.name + "/"))
        for entry in sorted(os.scandir(folder), key=lambda e: e.name)
        if entry.is_dir() and not hidden(entry.name)
    }
