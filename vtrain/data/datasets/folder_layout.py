"""Which folders of a dataset are splits, and which are classes.

The decision is made from names, and only where names of both kinds lie side by side by a look into
the folders, up to the first image.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vtrain.data.datasets.folder_listing import (
    Entry,
    Walk,
    holds_images,
    is_folder,
    list_folder,
)
from vtrain.data.datasets.folder_names import first_five, printable_name, splits_of
from vtrain.data.datasets.samples import SplitName
from vtrain.data.progress import Progress
from vtrain.errors import DataError

DRIVE = re.compile(r"([A-Za-z]):")
"""How a path of Windows begins."""
EXPECTED = "expected ROOT/train/CLASS/*.jpg and ROOT/val or ROOT/test, or ROOT/CLASS/*.jpg"
RULE = (
    "beside other folders of images, one named like a split is a class if it is the only one and "
    "holds images itself, and two that hold folders of images are splits; rename it, or move the "
    "others"
)


@dataclass(frozen=True)
class Layout:
    """The folders that hold the splits of a dataset; a folder of classes is all for training."""

    splits: dict[SplitName, Path]
    notes: tuple[str, ...] = ()
    """What lies beside them."""
    entries: list[Entry] | None = None
    """What is in the dataset's folder, where that is the folder of classes."""


def read_layout(root: Path) -> Layout:
    """Decide which folders in `root` are splits.

    Raises:
        DataError: There is no such folder, or it cannot be decided.
    """
    if not root.exists():
        raise DataError("no such dataset folder", root, _absent(root))
    if not root.is_dir():
        raise DataError("a file where the dataset's folder should be", root, EXPECTED)
    with Progress(f"listing {printable_name(root.name)}", "files") as progress:
        entries = list_folder(root, progress)
    named = _named_like_splits(root, entries)
    _refuse_broken(root, entries)
    if not named:
        return Layout({"train": root}, entries=entries)
    # Links are only counted here: where they lead is looked at when a split is listed.
    walk = Walk(os.path.realpath(root), os.path.realpath(root), True)
    others = _others(entries, named, walk)
    # In the folder itself or anywhere below it.
    filled = [entry for entry in others if any(holds_images(entry.path, root))]
    if filled and not _are_splits(root, list(named.values()), filled):
        (only,) = named.values()
        note = f"'{only.name}' is a class: it is no split, as it holds images itself"
        return Layout({"train": root}, (printable_name(note),))
    walk.passed.loose = sum(walk.is_image(entry) for entry in entries if not is_folder(entry))
    notes = _beside(others, filled) + walk.passed.notes("the folder", 0)
    return Layout({split: root / entry.name for split, entry in named.items()}, tuple(notes))


def _absent(root: Path) -> str:
    """Say what may be meant by a folder that is not there."""
    drive = next((found for found in map(DRIVE.match, root.parts) if found), None)
    if drive is not None:
        return f"it looks like a path of Windows: in WSL that drive is /mnt/{drive[1].lower()}"
    return EXPECTED


def splits_above(root: Path) -> Path | None:
    """Return the folder above one that is a split itself, where it holds another split, too."""
    with suppress(OSError):
        found = splits_of(path.name for path in root.parent.iterdir() if path.is_dir())
        if root.name in found and len(set(found.values())) > 1:
            return root.parent
    return None


def _refuse_broken(root: Path, entries: list[Entry]) -> None:
    """Refuse a link named like a split that leads nowhere: the split is elsewhere, and meant."""
    links = [e.name for e in entries if e.is_symlink() and not os.path.exists(e.path)]  # noqa: PTH110 - not worth a Path
    for name in splits_of(links):
        raise DataError("a link leads nowhere", root / name, "mend it, or remove it")


def _named_like_splits(root: Path, entries: list[Entry]) -> dict[SplitName, Entry]:
    """Return the one folder that is named like each split."""
    named: dict[SplitName, Entry] = {}
    folders = {entry.name: entry for entry in entries if is_folder(entry)}
    for name, split in splits_of(folders).items():
        entry = folders[name]
        first = named.setdefault(split, entry)
        # One may be a link to the other.
        if first is not entry and os.path.realpath(first.path) != os.path.realpath(entry.path):
            pair = printable_name(f"'{first.name}' and '{entry.name}'")
            raise DataError(f"{pair} both name the {split} split", root, "rename or move one")
    return named


def _others(entries: list[Entry], named: dict[SplitName, Entry], walk: Walk) -> list[Entry]:
    """Return the folders beside those that are named like splits, or that they are links to."""
    splits = {os.path.realpath(entry.path) for entry in named.values()}
    return [
        entry
        for entry in entries
        if is_folder(entry) and entry not in named.values() and walk.enters(entry)
        if os.path.realpath(entry.path) not in splits
    ]


def _are_splits(root: Path, named: list[Entry], filled: list[Entry]) -> bool:
    """Decide for folders named like splits that lie beside others with images."""
    looks = {entry.name: holds_images(entry.path, root) for entry in named}  # itself, below it
    if len(named) == 1 and looks[named[0].name] == (True, False):
        return False
    with_classes = sum(below for _, below in looks.values())
    if with_classes >= 2 and (True, False) not in looks.values():
        return True
    splits = ", ".join(f"'{name}'" for name in looks)
    beside = first_five([f"'{entry.name}'" for entry in filled])
    what = f"it is unclear whether {splits} is a split or a class: {beside} beside it holds images"
    raise DataError(printable_name(what), root, RULE)


def _beside(others: list[Entry], filled: list[Entry]) -> list[str]:
    """Say which folders are neither splits nor in one."""
    notes = []
    for words, entries in (
        ("warning: ignored {} of images beside the splits", filled),
        ("ignored {} without images beside the splits", [e for e in others if e not in filled]),
    ):
        if entries:
            names = first_five([printable_name(entry.name) for entry in entries])
            count = "1 folder" if len(entries) == 1 else f"{len(entries)} folders"
            notes.append(f"{words.format(count)} ({names})")
    return notes
