"""Images in folders, one folder for each class."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_args

import torch

from vtrain.data.datasets.class_names import class_notes
from vtrain.data.datasets.folder_labels import merged
from vtrain.data.datasets.folder_layout import EXPECTED, read_layout, splits_above
from vtrain.data.datasets.folder_listing import (
    Entry,
    FolderListing,
    Walk,
    folders_in,
    is_folder,
    list_folder,
    two_forms,
)
from vtrain.data.datasets.folder_names import class_name, first_five, is_leftover, splits_of
from vtrain.data.datasets.passed_over import PassedOver
from vtrain.data.datasets.samples import FileSamples, Paths, Photographs, SplitName
from vtrain.errors import DataError
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES

WARNING = "warning: "
"""How a note begins on which much depends."""


@SOURCES.register("image_folder")
class ImageFolder(Photographs):
    """Your own images: `train/<class>/` beside `val/` or `test/`, or one folder of classes.

    Classes are the folders of the training split, numbered in the order of their names; all images
    below such a folder are its own. With one folder of classes, set `val_fraction` or `fold`. The
    rules are in docs/en/data.md, under "What counts as an image of which class".

    Args:
        root: The folder.
        follow_links: Whether links to folders and files outside of `root` are followed.
        several_labels: Whether files of the same name in several class folders are one image, which
            has all these classes.

    Raises:
        DataError: The folder is not as described.
    """

    def __init__(
        self,
        *,
        root: Annotated[Path, CHANGEABLE_ON_RESUME],
        follow_links: Annotated[bool, CHANGEABLE_ON_RESUME] = False,
        several_labels: bool = False,
    ) -> None:
        self.root, self.follow_links, self.several_labels = root, follow_links, several_labels
        # Folder names alone are read here; a split's files when it is asked for.
        layout = read_layout(root)
        self.folders = dict(layout.splits)
        first = self.folders[self.splits[0]]  # of training, if there is any
        entries = list_folder(first) if layout.entries is None else layout.entries
        self.origin, self.classes = first, _class_folders(first, entries)
        self._entries = {first: entries}  # each folder is listed once
        if "train" not in self.folders:  # what is only evaluated has no split that knows all
            self.classes = self._classes_of_all()
        self._listed: dict[Path, FileSamples] = {}  # a folder may hold a million files
        self._notes: dict[Path, list[str]] = {root: list(layout.notes)}
        self._nested: list[str] = []
        self._fault: DataError | None = None

    def _classes_of_all(self) -> tuple[str, ...]:
        """Return the classes of all splits together."""
        classes = set(self.classes)
        for folder in self.folders.values():
            with suppress(DataError):  # of a split that nobody may ask for
                self._entries.setdefault(folder, list_folder(folder))
                classes.update(_class_folders(folder, self._entries[folder]))
        return tuple(sorted(classes))

    def is_of(self, section: object) -> bool:
        """Return whether a section `data` asks for this folder, read in this way."""
        keys = ("root", "follow_links", "several_labels")
        return all(getattr(section, key, None) == getattr(self, key) for key in keys)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        return tuple(name for name in get_args(SplitName) if name in self.folders)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored or looks odd; complete once the splits have been read."""
        # Folders of the same layout are asked about once.
        found = dict.fromkeys(note for notes in self._notes.values() for note in notes)
        return (*class_notes(self.classes), *found)

    def split(self, name: SplitName) -> FileSamples:
        """Return the images of one split.

        Raises:
            DataError: There is no such split, or its classes are not those of `train`.
        """
        folder = self.folders.get(name)
        if folder is None:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else EXPECTED
            if name == "val" and (above := splits_above(self.root)):
                hint = f"did you mean the folder above, {above}? Or {hint}"
            if name == "val":
                hint = "; but ".join([hint, *(note.removeprefix(WARNING) for note in self._nested)])
            raise DataError(f"there is no {name} split", self.root, hint)
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return self._listed[folder]

    def check_training(self, classes: tuple[str, ...]) -> None:
        self.split("train")  # which finds out, and is listed once
        if self._fault is not None:
            raise self._fault

    def _list(self, folder: Path) -> FileSamples:
        """Walk through the folder of a split."""
        entries = self._entries.pop(folder, None)
        listing = FolderListing(folder, self.root, self.follow_links, entries)
        # A missing class in validation is a note; a class that training has not is a mistake.
        unknown = sorted(set(listing.files) - set(self.classes))
        if unknown:
            raise self._unknown_class(listing, unknown)
        # Class after class, sorted in each: the order does not depend on the file system.
        paths = [path for name in self.classes for path in listing.files.get(name, ())]
        if not paths:
            hint = listing.passed.reader() or EXPECTED
            raise DataError(f"there are no images{listing.passed.said()}", folder, hint)
        counts = torch.tensor([len(listing.files.get(name, ())) for name in self.classes])
        targets = torch.arange(len(counts)).repeat_interleave(counts)
        # Kept for `check_training`: what nothing can be trained on may still be evaluated.
        if folder == self.folders.get("train"):
            self._fault = self._training_fault(listing)
        nested = _nested(folder, listing)
        if folder == self.origin:
            self._nested = nested
        self._notes.setdefault(folder, []).extend(nested + listing.notes(self.classes))
        if self.several_labels:
            paths, targets = merged(folder, self.classes, listing.files)
        return FileSamples(folder, Paths(paths), targets, listing.passed.endings)

    def _unknown_class(self, listing: FolderListing, unknown: list[str]) -> DataError:
        near = {name.casefold(): name for name in self.classes}.get(unknown[0].casefold())
        folder = listing.folder
        return DataError(
            f"class '{unknown[0]}' is in {folder.name} but not in train ({len(unknown)} unknown)",
            folder / listing.names[unknown[0]],
            "classes are matched by name: "
            + (f"train has '{near}'" if near else "rename or remove the folder"),
        )

    def _training_fault(self, listing: FolderListing) -> DataError | None:
        """Say why nothing can be trained on images that can be evaluated."""
        if len(self.classes) < 2:
            what = f"there is only one class, '{self.classes[0]}'"
            return DataError(what, listing.folder, _deeper(listing) or "training needs two")
        empty = [name for name in self.classes if name not in listing.files]
        if not empty:
            return None
        passed = PassedOver()
        for name in empty:
            passed.add(listing.empty[name])
        what = f"there are no images in class {first_five(empty)}{passed.said()}"
        return DataError(what, listing.folder, passed.hint())


def _class_folders(folder: Path, entries: list[Entry]) -> tuple[str, ...]:
    """Return the classes, in the order of their names."""
    folders: dict[str, str] = {}
    for entry in entries:
        if is_folder(entry) and not is_leftover(entry.name):
            name = class_name(entry.name)
            if name in folders:
                raise two_forms(folder, name, folders[name], entry.name)
            folders[name] = entry.name
    if not folders:
        walk = Walk("", "", follow_links=True)
        images = sum(walk.is_image(entry) for entry in entries if not is_folder(entry))
        loose = "1 image but " if images == 1 else f"{images:,} images but " if images else ""
        what = f"there {'is' if images == 1 else 'are'} {loose}no class folders"
        hint = "; ".join(filter(None, [EXPECTED, walk.passed.dataset()]))
        raise DataError(f"{what}{walk.passed.said()}", folder, hint)
    return tuple(sorted(folders))


def _deeper(listing: FolderListing) -> str | None:
    """Say where the dataset may be if its only class is a folder of folders."""
    ((name, folder),) = listing.names.items()
    inner = folders_in(listing.files.get(name, []))
    if not inner:
        return None
    return f"if {first_five(sorted(inner))} are meant, set data.root={listing.folder / folder}"


def _nested(folder: Path, listing: FolderListing) -> list[str]:
    """Ask about folders in class folders that may be the classes.

    Raises:
        DataError: They are the splits.
    """
    common = listing.common_folders()
    if not common:
        return []
    outer, inner = first_five(list(listing.files)), first_five(common)
    what = f"the classes are {outer}, and the folders in them have the same names ({inner})"
    if len(set(splits_of(common).values())) > 1:
        hint = f"put the splits first: {common[0]}/{next(iter(listing.files))}/"
        raise DataError(what, folder, hint)
    hint = (
        f"if those are the classes, put them first, as {common[0]}/{next(iter(listing.files))}/, "
        "or call the folders above them train and val"
    )
    return [f"{WARNING}{what}: {hint}"]
