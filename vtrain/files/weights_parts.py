"""Weights that are spread over several files: the index that says which file has which tensor.

Reference: `save_pretrained` of transformers, whose `max_shard_size` cuts a model into parts.
"""

import json
from pathlib import Path

from vtrain.errors import CheckpointError

INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""What transformers and the hub call the index of the two kinds of files."""
ENDING = ".index.json"
LARGEST = 64 * 2**20
"""Bytes: a name and a file for each of hundreds of thousands of tensors."""


def parts_of(index: Path) -> dict[Path, frozenset[str]]:
    """Return the files that an index names, each with the names of its tensors.

    Raises:
        CheckpointError: It is no index, or a file of it is not there.
    """
    parts: dict[Path, set[str]] = {}
    for name, file in _weight_map(index).items():
        # The hub's cache holds links, and only regular files are opened.
        parts.setdefault((index.parent / file).resolve(), set()).add(name)
    absent = [path.name for path in parts if not path.is_file()]
    if absent:
        what = f"{len(absent)} of the {len(parts)} parts are not there, such as {absent[0]}"
        raise CheckpointError(what, index, "copy all of them into one folder")
    return {path: frozenset(names) for path, names in parts.items()}


def part_names(index: Path) -> list[str]:
    """Return the names of the files that an index names, in order.

    Raises:
        CheckpointError: It is no index.
    """
    return sorted(set(_weight_map(index).values()))


def _weight_map(index: Path) -> dict[str, str]:
    """Return the name of the file that each tensor is in."""
    try:
        if index.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(found, dict) or not found:
            raise ValueError("it names no tensors")
        for file in found.values():
            # A name alone: an index may send nobody to other folders.
            if not isinstance(file, str) or Path(file).name != file or file in {"", ".", ".."}:
                raise ValueError(f"{str(file)[:40]!r} is no file name")
    except FileNotFoundError:
        raise CheckpointError("no such file", index) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:60] if str(error) else type(error).__name__
        raise CheckpointError(f"not an index of weights: {reason}", index) from None
    return found
