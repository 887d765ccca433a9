"""Images in folders, one folder for each class."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from vtrain.data.datasets.samples import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FileSamples,
    Paths,
    SplitName,
    Triple,
)
from vtrain.errors import DataError
from vtrain.files.images import is_image_name
from vtrain.registry import SOURCES

LAYOUT = "expected ROOT/train/CLASS/*.jpg and ROOT/val or ROOT/test, or ROOT/CLASS/*.jpg"
SPLITS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test",),
}
"""The folders that hold a split: the first that exists."""
IGNORED_SHARE = 0.05
"""The part of files that are no images above which the note on them is a warning."""


@SOURCES.register("image_folder")
class ImageFolder:
    """Your own images: `train/<class>/` beside `val/` or `test/`, or one folder of classes.

    Classes are the folders of the training split, numbered in the order of their names. Hidden
    folders are ignored. With one folder of classes, set `val_fraction` or `fold`.

    Args:
        root: The folder.
        follow_links: Whether links to folders and files outside of `root` are followed.

    Raises:
        DataError: The folder is not as described.
    """

    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    def __init__(self, *, root: Path, follow_links: bool = False) -> None:
        self.root, self.follow_links = root, follow_links
        self.folders = _split_folders(root)
        self.names = _class_folders(self.folders.get("train") or self.folders["val"])
        self.classes = tuple(printable_name(name) for name in self.names)
        self._listed: dict[Path, FileSamples] = {}  # a folder may hold a million files
        self._notes: dict[Path, list[str]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored or looks odd; complete once the splits have been read."""
        of_splits = [note for notes in self._notes.values() for note in notes]
        return tuple(_similar_names(self.classes) + _number_order(self.classes) + of_splits)

    def split(self, name: SplitName) -> FileSamples:
        """Return the images of one split.

        Raises:
            DataError: There is no such split, its classes are not those of `train`, or a training
                class has no images.
        """
        folder = self.folders.get(name)
        if folder is None:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else LAYOUT
            raise DataError(f"there is no {name} split", self.root, hint)
        if folder not in self._listed:
            self._listed[folder] = self._list(folder, name)
        return self._listed[folder]

    def _list(self, folder: Path, name: SplitName) -> FileSamples:
        """Walk through the folder of a split."""
        listing = FolderListing(folder, Path(os.path.realpath(self.root)), self.follow_links)
        unknown = sorted(set(listing.files) - set(self.names))
        if unknown:
            raise DataError(
                f"class '{printable_name(unknown[0])}' is in {folder.name} but not in train "
                f"({len(unknown)} unknown)",
                folder / unknown[0],
                "classes are matched by name: rename or remove the folder",
            )
        if name == "train":
            self._check_training(folder, listing)
        paths = [path for name in self.names for path in listing.files.get(name, ())]
        counts = torch.tensor([len(listing.files.get(name, ())) for name in self.names])
        if not paths:
            raise DataError("there are no images", folder, LAYOUT)
        targets = torch.arange(len(counts)).repeat_interleave(counts)
        self._notes[folder] = listing.notes(self.root, self.names)
        return FileSamples(folder, Paths(paths), targets, listing.ignored)

    def _check_training(self, folder: Path, listing: "FolderListing") -> None:
        if len(self.names) < 2:
            raise DataError(
                f"there is only one class, '{self.classes[0]}'", folder, "training needs two"
            )
        empty = [printable_name(name) for name in self.names if not listing.files.get(name)]
        if empty:
            more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
            raise DataError(
                f"there are no images in class {', '.join(empty[:5])}{more}",
                folder,
                "add images or remove the folder",
            )


@dataclass
class FolderListing:
    """The images of each class folder in `folder`, as sorted paths relative to it.

    Links to folders inside `root` are not followed: what they lead to is found where it is, and a
    link to a parent would be walked for ever.

    Raises:
        DataError: A folder cannot be listed, or a link leads out of `root` and `follow_links` is
            false.
    """

    folder: Path
    root: Path
    follow_links: bool
    ignored: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0
    _visited: set[str] = field(default_factory=set)

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """Class folder -> its images."""
        return {
            entry.name: sorted(self._images(entry, entry.name + "/"))
            for entry in list_folder(self.folder)
            if self._enter(entry)
        }

    def notes(self, root: Path, classes: tuple[str, ...]) -> list[str]:
        """Say what was ignored and which classes are absent."""
        where = self.folder.name if self.folder != root else "the folder"
        total = sum(self.ignored.values())
        images = sum(map(len, self.files.values()))
        absent = [printable_name(name) for name in classes if not self.files.get(name)]
        notes = []
        if absent:
            notes.append(f"{where} has no images of {len(absent)} classes: {first_five(absent)}")
        if total:
            kinds = first_five(
                [f"{ending or 'no ending'} {n}" for ending, n in self.ignored.most_common()]
            )
            level = "warning: " if total > IGNORED_SHARE * (total + images) else ""
            notes.append(f"{level}ignored {total} files in {where} that are no images: {kinds}")
        if self.hidden:
            notes.append(f"ignored {self.hidden} hidden files and folders in {where}")
        if self.links:
            notes.append(f"skipped {self.links} links to folders that are in {where} anyway")
        return notes

    def _images(self, folder: "os.DirEntry[str]", prefix: str) -> Iterator[str]:
        for entry in list_folder(Path(folder.path)):
            if self._enter(entry):
                yield from self._images(entry, f"{prefix}{entry.name}/")
            elif self._is_image(entry):
                yield prefix + entry.name

    def _enter(self, entry: "os.DirEntry[str]") -> bool:
        """Whether to look into what may be a folder."""
        if not is_folder(entry):
            return False
        if is_hidden(entry.name):
            self.hidden += 1
            return False
        if not entry.is_symlink():
            return True
        target = os.path.realpath(entry.path)
        if self._inside(target) or target in self._visited:
            self.links += 1
            return False
        self._refuse_outside(entry, target)
        self._visited.add(target)
        return True

    def _is_image(self, entry: "os.DirEntry[str]") -> bool:
        """Whether an entry that is not entered is an image; counted if it is something else."""
        if is_folder(entry):
            return False
        if is_hidden(entry.name):
            self.hidden += 1
            return False
        if not is_image_name(entry.name):
            self.ignored[printable_name(Path(entry.name).suffix.lower())] += 1
            return False
        if entry.is_symlink():  # a broken one is a bad image, which the loader's policy is for
            target = os.path.realpath(entry.path)
            if not self._inside(target):
                self._refuse_outside(entry, target)
        return True

    def _inside(self, target: str) -> bool:
        return Path(target).is_relative_to(self.root)

    def _refuse_outside(self, entry: "os.DirEntry[str]", target: str) -> None:
        if not self.follow_links:
            raise DataError(
                f"a link leads out of the dataset, to {target}",
                entry.path,
                "set data.follow_links=true if that is meant",
            )


def list_folder(folder: Path) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder, sorted by name.

    Raises:
        DataError: It cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list the folder: {error.strerror}", folder) from None


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_hidden(name: str) -> bool:
    """Whether a name is that of a tool's leftover, such as `.ipynb_checkpoints`."""
    return name.startswith(".") or name == "__MACOSX"


def printable_name(name: str) -> str:
    """Return a file name as text that any terminal, JSON or CSV file can hold."""
    return os.fsencode(name).decode(errors="backslashreplace")


def first_five(names: list[str]) -> str:
    """Join the first five names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _split_folders(root: Path) -> dict[SplitName, Path]:
    if not root.exists():
        raise DataError("no such dataset folder", root, LAYOUT)
    if not root.is_dir():
        raise DataError("a file where the dataset's folder should be", root, LAYOUT)
    names = {entry.name for entry in list_folder(root) if is_folder(entry)}
    folders: dict[SplitName, Path] = {}
    for split, choices in SPLITS.items():
        name = next((choice for choice in choices if choice in names), None)
        if name is not None:
            folders[split] = root / name
    return folders or {"train": root}


def _class_folders(folder: Path) -> tuple[str, ...]:
    entries = list_folder(folder)
    names = [entry.name for entry in entries if is_folder(entry) and not is_hidden(entry.name)]
    if not names:
        images = sum(is_image_name(entry.name) for entry in entries)
        what = f"{images} images but no class folders" if images else "no class folders"
        raise DataError(f"there are {what}", folder, LAYOUT)
    return tuple(names)


def _similar_names(classes: tuple[str, ...]) -> list[str]:
    """Warn of names that differ only by case or by how their accents are written."""
    seen: dict[str, str] = {}
    notes = []
    for name in classes:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            notes.append(
                f"warning: classes '{seen[key]}' and '{name}' differ by case or accents only"
            )
        seen[key] = name
    return notes


def _number_order(classes: tuple[str, ...]) -> list[str]:
    """Say that classes named by numbers are in the order of their text."""
    if all(name.isdecimal() for name in classes) and list(classes) != sorted(classes, key=int):
        return [f"classes are in the order of their names as text: {', '.join(classes[:5])}, ..."]
    return []
