"""Torchvision's classification datasets, with their official splits.

Torchvision downloads, verifies and lists; vtrain's own decoder reads the images.
"""

import contextlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError

import torch
from torch import Tensor

from vtrain.data.datasets.samples import (
    ArraySamples,
    FileSamples,
    Paths,
    Samples,
    SplitName,
    check_targets,
)
from vtrain.data.datasets.torchvision_table import TABLE, Spec
from vtrain.data.progress import said_if_long
from vtrain.errors import DataError, shortened
from vtrain.files.downloads import download_lock
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES


class TorchvisionSource:
    """A dataset of torchvision with its official splits.

    Args:
        root: The folder that holds it, or will.
        download: Whether to download what is not there.
    """

    def __init__(
        self,
        spec: Spec = TABLE["cifar10"],
        *,
        root: Annotated[Path, CHANGEABLE_ON_RESUME] = Path("data"),
        download: Annotated[bool, CHANGEABLE_ON_RESUME] = False,
    ) -> None:
        self.spec, self.root, self.download = spec, root, download
        self.mean, self.std, self.notes = spec.mean, spec.std, spec.notes
        self._opened: dict[SplitName, Any] = {}

    @property
    def splits(self) -> tuple[SplitName, ...]:
        return tuple(self.spec.splits)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; for the large sets, from the files of the dataset itself."""
        if self.spec.classes:
            return self.spec.classes
        # Opening reads the lists of a large set, so that `split` takes what was opened here.
        dataset = self._opened["train"] = self._open("train")
        names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
        return _unique(names or dataset.all_categories, getattr(dataset, "wnids", None))

    def split(self, name: SplitName) -> Samples:
        """Return the images of an official split.

        Raises:
            DataError: There is no such split, or the dataset is not there or not complete.
        """
        split = self.spec.splits.get(name)
        if split is None:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else None
            raise DataError(f"{self.spec.kind} has no official {name} split", None, hint)
        dataset = self._opened.pop(name, None) or self._open(name)
        with said_if_long(f"listing images of {self.spec.kind}"):
            images, labels = self.spec.read(dataset)
        # An extraction that was interrupted leaves a folder that torchvision takes for the dataset.
        if len(labels) != split.images:
            raise self._incomplete(f"{len(labels):,} of {split.images:,} images are there")
        targets = torch.as_tensor(labels).long()
        check_targets(targets, len(self.classes), self.root)
        if isinstance(images, Tensor):
            return ArraySamples(images, targets, f"{self.spec.kind} {name}")
        # Some sets list files from tables: whether they are there shows only by looking.
        paths = [os.path.relpath(path, self.root) for path in images]
        with said_if_long(f"looking for the files of {self.spec.kind}"):
            missing = _missing(self.root, paths)
        if missing:
            is_one = len(missing) == 1
            count = "1 file is missing" if is_one else f"{len(missing):,} files are missing"
            raise self._incomplete(f"{count}, the first {missing[0]}")
        return FileSamples(self.root, Paths(paths), targets)

    def _open(self, name: SplitName) -> Any:
        """Return torchvision's object for a split, downloaded if that is asked for."""
        split, by_hand = self.spec.splits[name], self.spec.by_hand
        # Before the import of torchvision, which takes longer than this answer should.
        if (by_hand or not self.download) and not (self.root / self.spec.folder).is_dir():
            hint = by_hand or "set data.download=true, or data.root to where it is"
            raise DataError(f"{self.spec.kind} is not there", self.root / self.spec.folder, hint)
        from torchvision import datasets

        kind = getattr(datasets, self.spec.kind)
        arguments = {"root": str(self.root), **split.arguments}
        if not by_hand:
            arguments["download"] = self.download
        try:
            # Of several processes one downloads, the others wait and find it there.
            with (
                said_if_long(f"{'downloading' if self.download else 'opening'} {self.spec.kind}"),
                download_lock(self.root) if self.download else contextlib.nullcontext(),
            ):
                return kind(**arguments)
        except Exception as error:
            raise self._refused(error) from error

    def _incomplete(self, what: str) -> DataError:
        hint = "remove what is there and download it again"
        return DataError(f"{self.spec.kind} is not complete: {what}", self.root, hint)

    def _refused(self, error: Exception) -> DataError:
        """Say why torchvision could not open the dataset, in one line."""
        # urllib hides what went wrong (no route, no name, refused) in `reason`.
        if type(error) is URLError and isinstance(error.reason, OSError):
            error = error.reason
        text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        reason = text.splitlines()[0].rstrip(": ")
        if self.spec.by_hand and "not present" in reason:
            what = f"{self.spec.kind} is not there or not complete"
            return DataError(what, self.root, self.spec.by_hand)
        if self.download and not self.spec.by_hand:
            what = f"{self.spec.kind} could not be downloaded: {shortened(reason, 100)}"
            return DataError(what, self.root, "is there a network?")
        if "download=True" in reason or isinstance(error, FileNotFoundError):
            what = f"{self.spec.kind} is not there or not complete"
            return DataError(what, self.root, "set data.download=true")
        return DataError(f"{self.spec.kind} cannot be read: {shortened(reason, 100)}", self.root)


for _name, _spec in TABLE.items():
    SOURCES.register(_name, spec=_spec)(TorchvisionSource)


def _missing(root: Path, paths: list[str]) -> list[str]:
    """Return the paths that do not exist, by listing each folder once."""
    present: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in present:
            try:
                present[folder] = {entry.name for entry in (root / folder).iterdir()}
            except OSError:
                present[folder] = set()
        if name not in present[folder]:
            missing.append(path)
    return missing


def _unique(names: Sequence[str | tuple[str, ...]], keys: Sequence[str] | None) -> tuple[str, ...]:
    """Make names of classes out of torchvision's; ImageNet has two cranes, told apart by key."""
    texts = [name if isinstance(name, str) else ", ".join(name) for name in names]
    if keys is None or len(set(texts)) == len(texts):
        return tuple(texts)
    return tuple(
        f"{text} ({key})" if texts.count(text) > 1 else text
        for text, key in zip(texts, keys, strict=True)
    )
