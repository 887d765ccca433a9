"""Images in folders, one folder for each class."""

import os
from pathlib import Path

import torch

from vtrain.data.datasets.class_names import class_notes
from vtrain.data.datasets.folder_listing import (
    FolderListing,
    first_five,
    is_folder,
    is_hidden,
    list_folder,
    printable_name,
)
from vtrain.data.datasets.samples import FileSamples, Paths, Photographs, SplitName
from vtrain.errors import DataError
from vtrain.files.images import is_image_name
from vtrain.registry import SOURCES

LAYOUT = "expected ROOT/train/CLASS/*.jpg and ROOT/val or ROOT/test, or ROOT/CLASS/*.jpg"
SPLIT_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test",),
}
"""The folders that hold a split: the first that exists."""


@SOURCES.register("image_folder")
class ImageFolder(Photographs):
    """Your own images: `train/<class>/` beside `val/` or `test/`, or one folder of classes.

    Classes are the folders of the training split, numbered in the order of their names. Hidden
    folders are ignored. With one folder of classes, set `val_fraction` or `fold`.

    Args:
        root: The folder.
        follow_links: Whether links to folders and files outside of `root` are followed.

    Raises:
        DataError: The folder is not as described.
    """

    def __init__(self, *, root: Path, follow_links: bool = False) -> None:
        self.root, self.follow_links = root, follow_links
        # Folder names alone are read here; a split's files when it is asked for.
        self.folders = _split_folders(root)
        self.names = _class_folders(self.folders.get("train") or self.folders["val"])
        self.classes = tuple(printable_name(name) for name in self.names)
        self._listed: dict[Path, FileSamples] = {}  # a folder may hold a million files
        self._notes: dict[Path, list[str]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored or looks odd; complete once the splits have been read."""
        of_splits = [note for notes in self._notes.values() for note in notes]
        return tuple(class_notes(self.classes) + of_splits)

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
        if folder not in self._listed:  # `val` and `test` may be one folder
            self._listed[folder] = self._list(folder, name)
        return self._listed[folder]

    def _list(self, folder: Path, name: SplitName) -> FileSamples:
        """Walk through the folder of a split."""
        listing = FolderListing(folder, Path(os.path.realpath(self.root)), self.follow_links)
        # A missing class in validation is a note; a class that training has not is a mistake.
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
        # Class after class, sorted in each: the order does not depend on the file system.
        paths = [path for name in self.names for path in listing.files.get(name, ())]
        counts = torch.tensor([len(listing.files.get(name, ())) for name in self.names])
        if not paths:
            raise DataError("there are no images", folder, LAYOUT)
        targets = torch.arange(len(counts)).repeat_interleave(counts)
        self._notes[folder] = listing.notes(self.root, self.names)
        return FileSamples(folder, Paths(paths), targets, listing.ignored)

    def _check_training(self, folder: Path, listing: FolderListing) -> None:
        if len(self.names) < 2:
            what = f"there is only one class, '{self.classes[0]}'"
            raise DataError(what, folder, "training needs two")
        empty = [printable_name(name) for name in self.names if not listing.files.get(name)]
        if empty:
            what = f"there are no images in class {first_five(empty)}"
            raise DataError(what, folder, "add images or remove the folder")


def _split_folders(root: Path) -> dict[SplitName, Path]:
    if not root.exists():
        raise DataError("no such dataset folder", root, LAYOUT)
    if not root.is_dir():
        raise DataError("a file where the dataset's folder should be", root, LAYOUT)
    # Without any of the known names, the folders are classes and all of it is for training.
    names = {entry.name for entry in list_folder(root) if is_folder(entry)}
    folders: dict[SplitName, Path] = {}
    for split, choices in SPLIT_FOLDERS.items():
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
