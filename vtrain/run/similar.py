"""`vtrain predict --features` and `--similar`: what models read of images, and which are alike."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtrain.errors import CheckpointError, DataError
from vtrain.inference.feature_file import AGAIN, FeatureFile, model_hash
from vtrain.inference.features import Read, features_of
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.neighbours import nearest
from vtrain.inference.outputs import batches_of_files
from vtrain.run.find_images import find_images
from vtrain.run.members import refuse_exported
from vtrain.run.predict import in_order, load, newest_checkpoint
from vtrain.run.ranked import autocast_of

log = logging.getLogger(__name__)
NEAREST = 5
"""Images that are named unless another number is asked for."""


@dataclass(frozen=True)
class Match:
    """An image of the index."""

    image: str
    similarity: float
    """The cosine of the features, from -1 to 1."""
    label: str | None
    """Its class, where the index knows it."""


@dataclass(frozen=True)
class Similar:
    """The images of an index that are most like one, or why there are none."""

    image: str
    nearest: list[Match]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        rows = [
            {"image": one.image, "similarity": one.similarity}
            | ({} if one.label is None else {"class": one.label})
            for one in self.nearest
        ]
        return {"image": self.image, "similar": rows}


@dataclass(frozen=True)
class Kept:
    """An image whose features are kept, or why they are not."""

    image: str
    error: str | None = None


def write_features(patterns: list[str], ckpt: Path | None, output: Path) -> list[Kept]:
    """Write what a model's heads read of images to `output`, and return which are there.

    It is written once all images are read: their features, 4 D bytes each, are held until then.

    Raises:
        CheckpointError: There is no usable checkpoint.
        DataError: No image is named, or none can be read.
        StorageError: `output` cannot be written.
    """
    file, kept = read_features(patterns, ckpt)
    file.save(output)
    return kept


def read_features(patterns: list[str], ckpt: Path | None) -> tuple[FeatureFile, list[Kept]]:
    """Return what a model's heads read of images, and which images are there.

    Raises:
        CheckpointError: There is no usable checkpoint.
        DataError: No image is named, or none can be read.
    """
    paths, loaded = find_images(patterns), _loaded(ckpt)
    errors: dict[int, str] = {}
    rows, kept = [], []
    for path, row, error in in_order(paths, _features(loaded, paths, errors), errors):
        kept.append(Kept(str(path), error))
        if row is not None:
            rows.append(row)
    if not rows:
        raise DataError(f"none of {len(kept)} images could be read", kept[0].image, kept[0].error)
    names = tuple(one.image for one in kept if one.error is None)
    return FeatureFile(np.stack(rows), names, model_hash(loaded), loaded.classes), kept


def similar_images(
    patterns: list[str], ckpt: Path | None, index: Path | FeatureFile, count: int | None = None
) -> Iterator[Similar]:
    """Name the images of an index that are most like each image; each as soon as it is known.

    Args:
        patterns: Files, folders and globs.
        ckpt: The model that the index was written by; None is the newest finished run's best.
        index: What `read_features` returned, or a file of it or of `vtrain explain --features
            --save`.
        count: How many to name; None means `NEAREST`, and never more than there are.

    Raises:
        CheckpointError: There is no usable checkpoint or index, or it is of another model.
        DataError: No image is named. One that cannot be read is no exception but a result.
    """
    paths = find_images(patterns)
    file = FeatureFile.load(index) if isinstance(index, Path) else index
    loaded = _loaded(ckpt)
    if (own := model_hash(loaded)) != file.model:
        where = index if isinstance(index, Path) else "the features"
        what = f"it is of another model ({file.model:.12}) than {loaded.path} ({own:.12})"
        raise CheckpointError(what, where, f"name that model with --ckpt, or {AGAIN}")
    bank = torch.tensor(file.features)  # a copy: what was read is not writable
    errors: dict[int, str] = {}
    wanted = min(count or NEAREST, len(bank))

    def found() -> Iterator[tuple[int, list[Match]]]:
        for read in _reads(loaded, paths, errors):
            cosines, places = nearest(read.features.to(loaded.device), bank, wanted)
            rows = zip(cosines.clamp(-1, 1).tolist(), places.tolist(), strict=True)
            for number, (row, ids) in zip(read.indices.tolist(), rows, strict=True):
                yield (
                    number,
                    [Match(file.ids[i], c, file.label(i)) for c, i in zip(row, ids, strict=True)],
                )

    answers = in_order(paths, found(), errors)
    return (Similar(str(path), matches or [], error) for path, matches, error in answers)


def _loaded(ckpt: Path | None) -> LoadedModel:
    ckpt = ckpt or newest_checkpoint()
    refuse_exported(ckpt, "logits and no features")
    return load(ckpt)


def _features(
    loaded: LoadedModel, paths: list[Path], errors: dict[int, str]
) -> Iterator[tuple[int, "np.ndarray[Any, np.dtype[np.float32]]"]]:
    for read in _reads(loaded, paths, errors):
        yield from zip(read.indices.tolist(), read.features.numpy(), strict=True)


def _reads(loaded: LoadedModel, paths: list[Path], errors: dict[int, str]) -> Iterator[Read]:
    def on_error(number: int, error: DataError) -> None:
        errors[number] = error.what

    batches = batches_of_files(paths, loaded.geometry, loaded.device, on_error)
    return features_of(loaded, batches, autocast_of(loaded))
