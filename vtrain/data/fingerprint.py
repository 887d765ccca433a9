"""Know a dataset again: a run goes on only with the images that it began with."""

import hashlib
import os
from typing import Any

import torch

from vtrain.data.samples import ArraySamples, FileSamples, Samples, origin
from vtrain.errors import DataError


def fingerprint(samples: Samples) -> dict[str, Any]:
    """Return plain data that changes when an image is added, removed, resized or relabelled.

    Of files, path below the root and size count, not the content: reading it all would take long.
    """
    digest = hashlib.sha256(samples.targets.contiguous().numpy().data)
    if isinstance(samples, ArraySamples):
        digest.update(samples.array.contiguous().numpy().data)
    else:
        for index in range(len(samples)):
            digest.update(_identity(samples, index).encode(errors="surrogateescape"))
    return {
        "images": len(samples),
        "per_class": torch.bincount(samples.targets).tolist(),
        "sha256": digest.hexdigest(),
    }


def check_unchanged(before: dict[str, Any], samples: Samples, where: object) -> None:
    """Refuse a dataset that is not the one of `before`.

    Raises:
        DataError: Images were added, removed, changed or relabelled.
    """
    after = fingerprint(samples)
    if after == before:
        return
    hint = "put back what it was, or start a new run"
    if after["images"] != before["images"]:
        change = f"{before['images']:,} then, {after['images']:,} now"
    elif after["per_class"] != before["per_class"]:
        change = "other numbers of images per class"
    else:
        change = "other names or contents"
    raise DataError(f"the images are not those the run began with: {change}", where, hint)


def _identity(samples: Samples, index: int) -> str:
    samples, index = origin(samples, index)
    if not isinstance(samples, FileSamples):
        return f"{samples.name(index)}\0"
    try:
        size = os.stat(samples.name(index)).st_size  # noqa: PTH116 - a Path takes twice as long
    except OSError:  # a broken link: whether that matters is the loader's policy
        size = -1
    return f"{samples.paths[index]}\0{size}\0"
