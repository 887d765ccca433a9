"""`features.npz`: what a model's heads read of images, which `numpy.load` reads, too."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtrain.errors import CheckpointError
from vtrain.files.arrays import read_arrays, write_arrays
from vtrain.inference.loaded import LoadedModel

AGAIN = "write it again with `vtrain predict IMAGES --features FILE.npz`"


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """What the heads of one model read of N images.

    Shape: `features` (N, D) float32; `labels` (N,) int64, numbers of `classes`, None where images
    have none.
    """

    features: NDArray[np.float32]
    ids: tuple[str, ...]
    """What tells an image from the others: its path, or its number in the dataset. Length N."""
    model: str
    """`model_hash` of the model: features of others cannot be compared with these."""
    classes: tuple[str, ...]
    """The model's."""
    labels: NDArray[np.int64] | None = None

    def save(self, path: Path, **others: NDArray[Any]) -> None:
        """Write the file, whole or not at all, beside `others` under their names.

        Raises:
            StorageError: It cannot be written; what was at `path` is untouched.
        """
        arrays: dict[str, NDArray[Any]] = {
            "features": np.ascontiguousarray(self.features, np.float32),
            # Bytes, not text: a file's name need not be valid text.
            "ids": np.array([os.fsencode(name) for name in self.ids], np.bytes_),
            "model": np.array(self.model),
            "classes": np.array(self.classes),
        }
        if self.labels is not None:
            arrays["labels"] = np.ascontiguousarray(self.labels, np.int64)
        write_arrays(path, {**arrays, **others})

    @classmethod
    def load(cls, path: Path) -> "FeatureFile":
        """Read a file that `save` wrote, and trust nothing.

        Raises:
            CheckpointError: It is absent, damaged, or something else.
        """
        arrays = read_arrays(path, AGAIN)
        try:
            features, ids = arrays["features"], arrays["ids"]
            if features.ndim != 2 or features.dtype != np.float32 or ids.dtype.kind != "S":
                raise ValueError(f"features of {features.dtype} {features.shape}")
            if ids.shape != features.shape[:1] or not len(ids):
                raise ValueError(f"{ids.size} names of {len(features)} images")
            if not np.isfinite(features).all():
                raise ValueError("features that are not finite")
            classes = tuple(map(str, arrays["classes"].tolist()))
            return cls(
                np.ascontiguousarray(features),
                tuple(os.fsdecode(name) for name in ids.tolist()),
                str(arrays["model"].item()),
                classes,
                _labels(arrays.get("labels"), len(ids), len(classes)),
            )
        except KeyError as error:
            raise CheckpointError(f"the file has no {error}", path, AGAIN) from None
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"not a file of features: {error!s:.100}", path, AGAIN) from None

    def label(self, index: int) -> str | None:
        """Return the class that an image has, None if that is not known."""
        return None if self.labels is None else self.classes[self.labels[index]]


def _labels(given: NDArray[Any] | None, images: int, classes: int) -> NDArray[np.int64] | None:
    if given is None:
        return None
    if given.shape != (images,) or given.dtype.kind != "i":
        raise ValueError(f"labels of {given.dtype} {given.shape}")
    if given.min() < 0 or given.max() >= classes:
        raise ValueError("a label that is no class")
    return given.astype(np.int64)


def model_hash(loaded: LoadedModel) -> str:
    """Return what is equal for models that read equal features of an image: 64 hex digits.

    That is of the weights without the heads, of what builds the model, and of the preprocessing.
    """
    checkpoint, heads = loaded.checkpoint, loaded.model.depth_groups()[-1]
    about = {"model": vars(checkpoint.model), "preprocess": checkpoint.preprocess}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(checkpoint.weights.items()):
        if name.split(".")[0] in heads:
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # As bytes: NumPy does not know every dtype of torch.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
