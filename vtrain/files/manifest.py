"""The manifest of a run folder: which checkpoints it holds, and the checksum of each."""

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vtrain.errors import CheckpointError
from vtrain.files import atomic
from vtrain.files.runs import RunFolder

NAME, LAST, BEST = RunFolder.manifest.name, RunFolder.last.name, RunFolder.best.name
LARGEST = 1 << 20
"""Bytes of the largest manifest that is read."""


@dataclass(frozen=True)
class Written:
    """Size in bytes and SHA-256 of a file, as they were read back."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A checkpoint that was verified when it was written. `metric` is the best one's measure."""

    name: str
    step: int
    size: int
    sha256: str
    metric: float | None = None


@dataclass(frozen=True)
class Manifest:
    """The checkpoints of a run folder in the order they were written."""

    entries: tuple[Entry, ...] = ()
    best: str | None = None

    def allowed(self, name: str) -> dict[str, int] | None:
        """Return the checksums that the file `name` may have, with sizes; None if any will do."""
        # last.pt and best.pt are other names of an entry, and re-pointed after the manifest.
        names = [entry.name for entry in self.entries] if name in (LAST, BEST) else [name]
        return {entry.sha256: entry.size for entry in self.entries if entry.name in names} or None


def read(folder: Path) -> Manifest:
    """Read the manifest of a run folder; where there is none, it is empty.

    Raises:
        CheckpointError: It is damaged, or names a file outside of the folder.
    """
    path = folder / NAME
    # Every field is checked: names of a manifest become paths that are read and removed.
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(LARGEST))
        entries = tuple(_entry(row) for row in content["checkpoints"])
        best = content["best"]
        # Otherwise `best.pt` would point at a file that pruning does not protect.
        if best is not None and best not in [entry.name for entry in entries]:
            raise ValueError("its best checkpoint is not in it")
    except (FileNotFoundError, NotADirectoryError):
        return Manifest()
    except OSError as error:
        raise CheckpointError(f"cannot read the manifest: {error.strerror}", path) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"the manifest is damaged: {error!s:.100}", path, "delete it to go by the files alone"
        ) from None
    return Manifest(entries, best)


def write(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a run folder.

    Raises:
        StorageError: It cannot be written; the old one is untouched.
    """
    rows = [asdict(entry) for entry in manifest.entries]
    atomic.write_json(folder / NAME, {"best": manifest.best, "checkpoints": rows})


def _entry(row: dict[str, Any]) -> Entry:
    entry = Entry(**row)  # a key too many or too few is a TypeError
    # No separator and no leading dot, so that a name cannot leave the folder.
    if type(entry.name) is not str or not re.fullmatch(r"[\w-][\w.-]*", entry.name, re.ASCII):
        raise ValueError(f"{entry.name!r:.60} is not the plain name of a file")
    if type(entry.step) is not int or type(entry.size) is not int or entry.step < 0:
        raise ValueError(f"{entry.name} has no proper step or size")
    if type(entry.sha256) is not str or not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise ValueError(f"{entry.name} has no proper sha256")
    if entry.metric is not None and not (
        type(entry.metric) in (int, float) and math.isfinite(entry.metric)
    ):
        raise ValueError(f"{entry.name} has no proper metric")
    return entry
