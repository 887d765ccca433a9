"""With which mean and std weights were trained, where that is said: in their file or beside it."""

import json
from pathlib import Path
from typing import TypeAlias

Colours: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std of each channel, of values in [0, 1]."""
BESIDE = (
    # Of timm, whose facts are in a part of their own or not, and of transformers.
    ("config.json", "pretrained_cfg", "mean", "std"),
    ("config.json", "", "mean", "std"),
    ("preprocessor_config.json", "", "image_mean", "image_std"),
)
LARGEST = 2**20
"""Bytes of such a file: the names of 21,000 classes are in some."""


def colours_beside(folder: Path) -> Colours | None:
    """Return what files of a repository of the hub say, if they lie beside the weights."""
    for name, part, mean, std in BESIDE:
        path = folder / name
        try:
            if path.stat().st_size > LARGEST:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
            found = colours_in(content[part] if part else content, mean, std)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or not trusted
            continue
        if found is not None:
            return found
    return None


def colours_in(facts: object, mean: str, std: str) -> Colours | None:
    """Return two rows of numbers by their names; None of anything else."""
    try:
        values = (tuple(map(float, facts[key])) for key in (mean, std))  # type: ignore[index]
        means, deviations = values
    except (KeyError, TypeError, ValueError, OverflowError):  # of another program, or not trusted
        return None
    return means, deviations
