"""What the name of a file or folder says: that of a split, of a leftover, or of a class."""

import os
from typing import TYPE_CHECKING

from vtrain.data.datasets.class_names import tidy

if TYPE_CHECKING:  # torch takes seconds, and to find images needs none of it
    from vtrain.data.datasets.samples import SplitName

SPLIT_WORDS: dict["SplitName", str] = {
    "train": "train training",
    "val": "val valid validate validation dev development eval evaluate evaluation holdout heldout",
    "test": "test tests testing",
}
SPLIT_ENDINGS = ("", "set", "split", "data", "images")
"""`train_set`, `Test Images` and so on."""
SPLIT_NAMES: dict[str, "SplitName"] = {
    word + ending: split
    for split, words in SPLIT_WORDS.items()
    for word in words.split()
    for ending in SPLIT_ENDINGS
}
"""Names without spaces, `-`, `_` and `.`, in small letters -> the split that they name."""
SEPARATORS = str.maketrans("", "", " -_.")

LEFTOVERS = {
    name.casefold(): name
    for name in (
        # network storage: Synology, QNAP
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
        # Windows
        *("$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "ehthumbs.db"),
        *("ehthumbs_vista.db", "desktop.ini"),
        # Mac
        *("__MACOSX", "Icon\r", "Network Trash Folder", "Temporary Items", ".DS_Store"),
        # Linux, galleries, notebooks
        *("lost+found", "Thumbs", "Thumbnails", ".ipynb_checkpoints", "__pycache__"),
    )
}
"""What systems and programs leave among files, in small letters -> as it is usually written."""


def split_of(name: str) -> "SplitName | None":
    """Return the split that a folder's name stands for, whatever its capitals."""
    return SPLIT_NAMES.get(name.casefold().translate(SEPARATORS))


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system and not by the user."""
    return name.startswith(".") or name.casefold() in LEFTOVERS


def leftover_kind(name: str) -> str:
    """Return what to call a leftover in a count: hidden files go by their first characters."""
    known = LEFTOVERS.get(name.casefold())
    return known.strip() if known else "._*" if name.startswith("._") else ".*"


def class_name(name: str) -> str:
    """Return the class that a folder's name stands for, as text that can be shown and compared."""
    return tidy(printable_name(name)) or name  # a name may be a blank


def printable_name(name: str) -> str:
    """Return a file name as text that any terminal, JSON or CSV file can hold."""
    return os.fsencode(name).decode(errors="backslashreplace")


def first_five(names: list[str]) -> str:
    """Join the first five names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
