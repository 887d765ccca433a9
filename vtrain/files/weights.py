"""Weight files that anyone wrote: of torch, safetensors or NumPy, told apart by their content."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtrain.errors import CheckpointError
from vtrain.files.archive import File, opened
from vtrain.files.arrays import read_arrays
from vtrain.files.runs import RunFolder
from vtrain.files.weights_colours import Colours, colours_beside, colours_in
from vtrain.files.weights_parts import ENDING, INDEX_NAMES, parts_of
from vtrain.files.weights_torch import TorchFile
from vtrain.files.weights_within import weights_within

KNOWN_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What transformers and the hub call the weights of a model."""
BEST_NAMES = ("model_best.pth.tar", "best_checkpoint.pth")
"""What the scripts of timm and DeiT call their best weights, beside those of other epochs."""
DEEPEST = 3
"""Folders within one another that are searched for weights to name."""
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".npz", ".tar", ".ckpt")


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds. `classes` is empty where the file does not name them."""

    tensors: dict[str, Tensor]
    classes: tuple[str, ...]
    colours: Colours | None = None
    """Mean and std that they were trained with, where the file or one beside it states them."""
    place: str = ""
    """The key of the file that they were under, if any."""
    arch: str = ""
    """What timm's training script calls the model, if it wrote the file."""
    is_own: bool = False
    """Whether vtrain wrote it."""


def read_weights(path: Path) -> WeightFile:
    """Read a file of tensors onto the CPU; nothing in it is ever executed.

    A folder stands for the file in it: of a run its best checkpoint, else the one file of weights.
    The index of several files stands for all of them.

    Of a checkpoint of vtrain it is the weights that are evaluated, even if the rest is unusable.
    Other files hold their tensors bare, or under a key; averaged ones are preferred.

    Raises:
        CheckpointError: It is absent, damaged, unsafe, or holds no tensors.
    """
    path = file_in(path) if path.is_dir() else path
    if path.name.endswith(ENDING):
        return _joined(path)
    with opened(path) as file:
        content, stored = _read(file, path)
        tensors, place = weights_within(content)
        if not tensors:
            raise CheckpointError("the file holds no weights", path)
        # While the file is open: what is read is what was verified.
        read = stored.tensors(tensors) if stored is not None else tensors
    return WeightFile(
        read,
        _names(content.get("classes")),
        colours_in(content.get("preprocess"), "mean", "std", "the file of the weights")
        or colours_beside(path.parent),
        place,
        arch if isinstance(arch := content.get("arch"), str) else "",
        is_own=isinstance(content.get("state"), dict) and "vtrain" in content,
    )


def _joined(index: Path) -> WeightFile:
    """Read the files that an index names as one.

    Raises:
        CheckpointError: One is absent or damaged, or lacks a tensor that the index says it has.
    """
    tensors: dict[str, Tensor] = {}
    parts = parts_of(index)
    for path, names in parts.items():
        inside = read_weights(path).tensors
        lacking = sorted(names - inside.keys())
        if lacking:
            what = f"it lacks {len(lacking)} tensors that the index names, such as {lacking[0]:.60}"
            raise CheckpointError(what, path)
        tensors |= {name: inside[name] for name in names}
    colours = colours_beside(index.parent)
    return WeightFile(tensors, (), colours, place=f"{len(parts)} parts")


def _names(classes: object) -> tuple[str, ...]:
    if not isinstance(classes, list | tuple) or any(type(name) is not str for name in classes):
        return ()
    return tuple(classes)


def file_in(folder: Path) -> Path:
    """Return the file of weights that a folder stands for.

    Raises:
        CheckpointError: It has none, or several of which none has a known name.
    """
    run = RunFolder(folder)
    for path in (
        run.best,
        run.last,
        *(folder / name for name in (*KNOWN_NAMES, *INDEX_NAMES, *BEST_NAMES)),
    ):
        if path.exists():
            return path
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
    if len(files) == 1:
        return files[0]
    if not files:
        inner = _deeper(folder)
        hint = "name a file" if inner is None else f"name one in it, such as {inner}"
        raise CheckpointError("no file of weights in this folder", folder, hint)
    names = ", ".join(path.name for path in files[:3]) + ", ..." * (len(files) > 3)
    raise CheckpointError(
        f"{len(files)} files of weights in this folder: {names}", folder, "name one"
    )


def _deeper(folder: Path) -> Path | None:
    """Return the last of the folders within that have weights of a known name; None without any."""
    known = (*KNOWN_NAMES, *INDEX_NAMES, *BEST_NAMES, RunFolder.best.name, "*.ckpt")
    # Runs of a config, checkpoints of a trainer, and snapshots in the cache of the hub.
    for depth in range(1, DEEPEST + 1):
        above = "*/" * depth
        found = {path.parent for name in known for path in folder.glob(f"{above}{name}")}
        if found:
            return max(found).relative_to(folder)
    return None


def _read(file: File, path: Path) -> tuple[dict[str, Any], TorchFile | None]:
    """Read a file, not mapped into memory, as it may be truncated; of torch's without tensors."""
    head = file.read(512)
    if _is_npz(head):
        return _from_arrays(path), None
    if head[8:9] == b"{":  # safetensors start with a length in 8 bytes, then JSON
        return _from_safetensors(head + file.read(), path), None
    stored = TorchFile(file, path)
    if not isinstance(stored.content, dict):
        raise CheckpointError("not a mapping of names to tensors", path)
    return stored.content, stored


def _from_safetensors(content: bytes, path: Path) -> dict[str, Any]:
    import safetensors
    from safetensors.torch import load

    try:
        return {**_facts(content), **load(content)}
    except safetensors.SafetensorError as error:
        reason = str(error).splitlines()[0][:80]
        raise CheckpointError(f"truncated or corrupt safetensors: {reason}", path) from None


def _facts(content: bytes) -> dict[str, Any]:
    """Return what `vtrain export` says beside the weights in a file of safetensors."""
    length = int.from_bytes(content[:8], "little")
    try:
        stated = json.loads(content[8 : 8 + length])["__metadata__"]
        return {name: json.loads(stated[name]) for name in ("classes", "preprocess")}
    except (ValueError, KeyError, TypeError, RecursionError):  # of another program, or damaged
        return {}


def _is_npz(head: bytes) -> bool:
    """Whether a file is a zip archive whose first member, by its local header, is an array."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(b"PK\x03\x04") and name.endswith(b".npy")


def _from_arrays(path: Path) -> dict[str, Any]:
    arrays = read_arrays(path, "save it with numpy.savez, which neither compresses nor pickles")
    floats = {n: a for n, a in arrays.items() if a.dtype.kind == "f" and a.itemsize <= 8}
    # A copy, as the arrays are views of what was read, and torch has only native order.
    return {n: torch.from_numpy(a.astype(np.dtype(a.dtype.str[1:]))) for n, a in floats.items()}
