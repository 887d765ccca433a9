"""Checkpoint files: plain data and tensors, verified when written and again when read.

A file is untrusted until `archive` has checked it; only then does `torch.load(weights_only=True)`
get it. The only module of vtrain that calls `torch.load` and `torch.save`. Importing this imports
no torch.
"""

import os
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtrain.errors import CheckpointError, StorageError
from vtrain.files import atomic, manifest
from vtrain.files.archive import corrupt, opened, verified
from vtrain.files.manifest import Written

if TYPE_CHECKING:
    import torch

FORMAT = 1
"""Version of the schema. It rises when a reader of the old one would misunderstand the new one."""

MOST_VALUES = 1_000_000
DEEPEST = 32


def save_checkpoint(path: Path, payload: dict[str, Any]) -> Written:
    """Write `payload`, plain data and tensors, to `path`; it is read back before it is published.

    Raises:
        StorageError: It cannot be written; what was at `path` is untouched.
    """
    import torch

    content = {"format": FORMAT, **payload}
    # Measured before anything is written: it also refuses what is no plain data.
    with atomic.replacing(path, size=_storage_bytes(content)) as file:
        torch.save(content, file)
        file.flush()
        # Through the same open file that is about to be published, so that what a bad disk or
        # memory made of it is noticed while the last good checkpoint is still there.
        try:
            return verified(file, path, allowed=None)
        except CheckpointError as error:
            raise StorageError(
                f"what was written could not be read back ({error.what})", path, "check the disk"
            ) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of vtrain onto the CPU.

    Raises:
        CheckpointError: It is absent, damaged, unsafe, or no checkpoint of this vtrain.
    """
    content = load_weights(path)
    # A bool is an int to Python and no version to us.
    version = content.get("format")
    if type(version) is not int or version < 1 or "model" not in content:
        raise CheckpointError(
            "not a checkpoint of vtrain", path, "weights from elsewhere go into model.pretrained"
        )
    if version > FORMAT:
        raise CheckpointError(
            f"made by a newer vtrain: its format is {version}, this one reads up to {FORMAT}",
            path,
            "upgrade vtrain",
        )
    return content


def load_weights(path: Path) -> dict[str, Any]:
    """Read any mapping of tensors and plain data that `torch.save` wrote, whatever its file's name.

    Raises:
        CheckpointError: It is absent, damaged, unsafe, or no such file.
    """
    import torch

    allowed = manifest.read(path.parent).allowed(path.name)
    # One open file for both: between a check and a second opening it could be exchanged.
    with opened(path) as file:
        verified(file, path, allowed)
        file.seek(0)
        try:
            with warnings.catch_warnings():  # torch's texts are not for users, here and below
                warnings.simplefilter("ignore")
                # Not mapped: a mapped file that is truncated later would kill us with SIGBUS.
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
        except Exception:  # of seven kinds; some advise to switch the safety off
            raise corrupt(path, "its tensors cannot be read") from None
        largest = os.fstat(file.fileno()).st_size
    # Strides of 0 and shared storages can claim far more elements than a file has bytes.
    try:
        declared = _storage_bytes(content)
    except TypeError as error:
        raise CheckpointError(f"not plain data and tensors: {error}", path) from None
    if declared > largest:
        raise CheckpointError("its tensors are larger than the file", path, "do not trust it")
    if not isinstance(content, dict):
        raise CheckpointError("not a mapping of names to tensors", path)
    return content


def verify_file(path: Path) -> Written:
    """Check everything about a checkpoint that can be checked without building its tensors.

    Raises:
        CheckpointError: It is absent, damaged or unsafe.
    """
    allowed = manifest.read(path.parent).allowed(path.name)
    with opened(path) as file:
        return verified(file, path, allowed)


def _storage_bytes(content: Any) -> int:
    """Return the memory behind the tensors of plain data.

    Raises:
        TypeError: It is not plain: it holds another type, is nested too deep or holds itself, or a
            tensor that claims more elements than it has.
    """
    import torch

    storages: dict[int, int] = {}  # by address: views of one storage are written once
    # A stack of our own instead of recursion: a deep nesting must not overflow Python's.
    stack, values = [(content, 0)], 0
    while stack:
        value, depth = stack.pop()
        kind = type(value)
        if kind in (dict, OrderedDict):
            if any(type(key) not in (str, int) for key in value):
                raise TypeError("a key that is neither text nor a number")
            children = value.values()
        elif kind in (list, tuple):
            children = value
        elif kind in (torch.Tensor, torch.nn.Parameter):
            memory = value.untyped_storage() if _is_plain(value) else None
            if memory is None or value.numel() * value.element_size() > memory.nbytes():
                raise TypeError("a tensor that is sparse, quantised or larger than its memory")
            storages[memory.data_ptr()] = memory.nbytes()
            continue
        elif value is None or kind in (str, int, float, bool):
            continue
        else:
            raise TypeError(f"a value of type {kind.__name__}")
        values += len(children)
        if depth == DEEPEST or values > MOST_VALUES:
            raise TypeError("nested too deep, or too many values")
        stack.extend((child, depth + 1) for child in children)
    return sum(storages.values())


def _is_plain(tensor: "torch.Tensor") -> bool:
    import torch

    dense = tensor.layout == torch.strided and not tensor.is_quantized
    return dense and not tensor.is_nested and not tensor.is_meta
