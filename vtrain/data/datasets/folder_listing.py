"""Walk through folders of images: which files are images, and what else lies there."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from vtrain.data.datasets.folder_names import (
    absent_classes,
    class_name,
    is_leftover,
    leftover_kind,
    printable_name,
)
from vtrain.data.datasets.passed_over import PassedOver
from vtrain.data.progress import Progress
from vtrain.errors import DataError
from vtrain.files.image_names import EXTENSIONS

Entry: TypeAlias = "os.DirEntry[str]"
CHUNK = 10_000
"""Entries of one folder that are read between two steps of the progress bar."""


@dataclass
class Walk:
    """Finds the images below folders, in the order of their names.

    A folder that is reached twice counts once. So a link to a folder inside of `top` is not
    followed, as what it leads to is found where it is, and neither is one to a parent, which would
    be walked for ever.

    Raises:
        DataError: A folder cannot be listed, or a link leads out of `root` and `follow_links` is
            false.
    """

    top: str
    """The folder that all of this is about, without links."""
    root: str
    """The dataset's folder, without links."""
    follow_links: bool
    progress: Progress | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    """What is passed over is counted here."""
    _visited: set[str] = field(default_factory=set)
    """Folders that were reached by links."""

    def images(self, folder: str, prefix: str = "", *, linked: bool = False) -> Iterator[str]:
        """Yield the path of each image below a folder, relative to it, behind `prefix`.

        `linked` says that the folder is a link itself.
        """
        # No recursion: folders may be nested deeper than Python calls functions.
        stack = [(iter(list_folder(folder, self.progress)), prefix, linked)]
        while stack:
            entries, prefix, linked = stack[-1]
            for entry in entries:
                if not is_folder(entry):
                    if self.is_image(entry):
                        yield prefix + entry.name
                elif self.enters(entry, linked):
                    below = iter(list_folder(entry.path, self.progress))
                    stack.append((below, f"{prefix}{entry.name}/", linked or entry.is_symlink()))
                    break
            else:
                # The folder is read to its end, and was not left for one inside of it.
                stack.pop()

    def enters(self, entry: Entry, linked: bool = False) -> bool:
        """Whether to look into a folder, which may be a link, or have been reached by one."""
        if is_leftover(entry.name):
            self.passed.leftovers[leftover_kind(entry.name)] += 1
            return False
        if not (linked or entry.is_symlink()):
            return True
        target = os.path.realpath(entry.path)
        if self._is_listed(target) or target in self._visited:
            self.passed.links += 1
            return False
        self._refuse_outside(entry, target)
        self._visited.add(target)
        return True

    def is_image(self, entry: Entry) -> bool:
        """Whether a file is an image; it is counted if not."""
        name = entry.name
        # Asked of each of a million files: slices of the text, as a `Path` takes far longer.
        dot = name.rfind(".")
        if dot > 0 and name[dot:].lower() in EXTENSIONS and name[0] != ".":
            # A broken link is a bad image, which the loader's policy is for.
            if entry.is_symlink():
                self._refuse_outside(entry, os.path.realpath(entry.path))
            return True
        if is_leftover(name):
            self.passed.leftovers[leftover_kind(name)] += 1
        elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - as above
            self.passed.broken[name] += 1
        else:
            self.passed.endings[printable_name(name[dot:].lower() if dot > 0 else "")] += 1
        return False

    def _is_listed(self, target: str) -> bool:
        """Whether a folder is found without the link to it, or holds all that is listed."""
        if Path(self.top).is_relative_to(target):
            return True
        if not Path(target).is_relative_to(self.top):
            return False
        return not any(map(is_leftover, Path(target).relative_to(self.top).parts))

    def _refuse_outside(self, entry: Entry, target: str) -> None:
        if not (self.follow_links or Path(target).is_relative_to(self.root)):
            raise DataError(
                f"a link leads out of the dataset, to {target}",
                entry.path,
                "set data.follow_links=true if that is meant",
            )


class FolderListing:
    """The images of each class folder in `folder`, as sorted paths relative to it.

    Args:
        folder: A folder of classes.
        root: The dataset's folder.
        follow_links: Whether links out of `root` are followed.
        entries: What is in `folder`, where that is known.

    Raises:
        DataError: See `Walk`; or two folders are one class.
    """

    def __init__(
        self, folder: Path, root: Path, follow_links: bool, entries: list[Entry] | None = None
    ) -> None:
        self.folder, self.root = folder, root
        self.files: dict[str, list[str]] = {}
        """Class -> its images."""
        self.empty: dict[str, PassedOver] = {}
        """Class without images -> what is there."""
        self.passed = PassedOver()
        """In all of the folder."""
        self.names: dict[str, str] = {}
        """Class -> its folder."""
        with Progress(f"listing images in {printable_name(folder.name)}", "files") as progress:
            real = os.path.realpath
            self._walk = Walk(real(folder), real(root), follow_links, progress)
            for entry in list_folder(folder, progress) if entries is None else entries:
                self._add(entry)
                self.passed.add(self._walk.passed)

    def _add(self, entry: Entry) -> None:
        """List what may be a class folder."""
        # Counted by itself: of a class without images it says what lies there instead.
        passed = self._walk.passed = PassedOver()
        if not is_folder(entry):
            passed.loose += self._walk.is_image(entry)
            return
        name, images = class_name(entry.name), list[str]()
        if self._walk.enters(entry):
            linked = entry.is_symlink()
            images = sorted(self._walk.images(entry.path, entry.name + "/", linked=linked))
        elif is_leftover(entry.name):
            return
        if name in self.names:
            raise two_forms(self.folder, name, self.names[name], entry.name)
        self.names[name] = entry.name
        if images:
            self.files[name] = images
        else:
            self.empty[name] = passed

    def notes(self, classes: tuple[str, ...]) -> list[str]:
        """Say what was ignored and which classes are absent."""
        where = self.folder.name if self.folder != self.root else "the folder"
        notes = absent_classes(where, classes, self.files)
        return notes + self.passed.notes(where, sum(map(len, self.files.values())))

    def common_folders(self) -> list[str]:
        """Return the names of folders that classes share, where no class holds an image itself.

        Each class must share one with another: then they may be days, say, and not classes.
        """
        if len(self.files) < 2:
            return []
        inner = []
        for paths in self.files.values():
            inner.append(folders_in(paths))
            if not inner[-1]:
                return []
        counts = Counter(itertools.chain.from_iterable(inner))
        if not all(any(counts[name] > 1 for name in names) for names in inner):
            return []
        return sorted(name for name, count in counts.items() if count > 1)


def folders_in(paths: list[str]) -> set[str]:
    """Return the folders in a class folder, unless an image lies in the class folder itself."""
    if any(path.count("/") == 1 for path in paths):  # mostly the first is one
        return set()
    return {class_name(path.split("/", 2)[1]) for path in paths}


def images_below(folder: Path) -> tuple[list[Path], PassedOver]:
    """Return the images below a folder, and what was passed over; all links are followed."""
    with Progress(f"listing images in {printable_name(folder.name)}", "files") as progress:
        real = os.path.realpath(folder)
        walk = Walk(real, real, True, progress)
        return [folder / path for path in walk.images(str(folder))], walk.passed


def holds_images(folder: str, root: Path) -> tuple[bool, bool]:
    """Return whether there is an image in a folder itself, and in one below it."""
    with Progress(f"looking into {printable_name(folder)}", "files") as progress:
        # What it finds here is not used; so links may lead anywhere.
        walk = Walk(os.path.realpath(folder), os.path.realpath(root), True, progress)
        entries = list_folder(folder, progress)
        itself = any(not is_folder(entry) and walk.is_image(entry) for entry in entries)
        below = any(
            any(True for _ in walk.images(entry.path, linked=entry.is_symlink()))
            for entry in entries
            if is_folder(entry) and walk.enters(entry)
        )
    return itself, below


def two_forms(folder: Path, name: str, first: str, second: str) -> DataError:
    """Return the error on two folders whose names differ by blanks or Unicode forms alone."""
    forms = " and ".join(ascii(form) for form in (first, second))
    what = f"two folders are one class, '{name}', written in two ways: {forms}"
    return DataError(what, folder, "move all of its images into one of them")


def list_folder(folder: Path | str, progress: Progress | None = None) -> list[Entry]:
    """Return the entries of a folder, sorted by name.

    Raises:
        DataError: It cannot be listed.
    """
    found: list[Entry] = []
    try:
        with os.scandir(folder) as entries:
            while chunk := list(itertools.islice(entries, CHUNK)):
                found += chunk
                if progress is not None:
                    progress.add(len(chunk))
    except OSError as error:
        raise DataError(f"cannot list the folder: {error.strerror}", folder) from None
    found.sort(key=attrgetter("name"))
    return found


def is_folder(entry: Entry) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
