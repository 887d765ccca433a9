"""Walk through a folder of classes: which files are images, and what else lies there."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vtrain.errors import DataError
from vtrain.files.images import is_image_name

IGNORED_SHARE = 0.05
"""The part of files that are no images above which the note on them is a warning."""


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
    _visited: set[str] = field(default_factory=set)  # where links have led

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
            # A stray file is usual; many mean that images have an ending nobody reads.
            level = "warning: " if total > IGNORED_SHARE * (total + images) else ""
            notes.append(f"{level}ignored {total} files in {where} that are no images: {kinds}")
        if self.hidden:
            notes.append(f"ignored {self.hidden} hidden files and folders in {where}")
        if self.links:
            notes.append(f"skipped {self.links} links to folders that are in {where} anyway")
        return notes

    def _images(self, folder: "os.DirEntry[str]", prefix: str) -> Iterator[str]:
        # A class may have folders in folders: all images below it are its own.
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
        # Two links to one folder outside, or a link back to a parent, are followed once.
        if self._inside(target) or target in self._visited:
            self.links += 1
            return False
        self._refuse_outside(entry, target)
        self._visited.add(target)
        return True

    def _is_image(self, entry: "os.DirEntry[str]") -> bool:
        """Whether an entry that is not entered is an image; counted if it is something else."""
        if is_folder(entry):  # one that was not entered
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
