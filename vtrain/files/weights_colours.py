"""With which mean and std weights were trained, where that is said: in their file or beside it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BESIDE = {
    # Of timm, whose facts are in a part of their own or not, and of transformers.
    "config.json": ("mean", "std"),
    "preprocessor_config.json": ("image_mean", "image_std"),
}
LARGEST = 2**20
"""Bytes of such a file: the names of 21,000 classes are in some."""


@dataclass(frozen=True)
class Colours:
    """Mean and std of each channel, of values in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    said_by: str
    """What says so, in words for people."""


def colours_beside(folder: Path) -> Colours | None:
    """Return what files of a repository of the hub say, if they lie beside the weights.

    timm writes `config.json`, and transformers `preprocessor_config.json`.
    """
    for name, keys in BESIDE.items():
        path = folder / name
        try:
            if path.stat().st_size > LARGEST:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # none, or not trusted
            continue
        inner = content.get("pretrained_cfg") if isinstance(content, dict) else None
        for facts in (inner, content):
            found = colours_in(facts, *keys, f"{name} beside the weights")
            if found is not None:
                return found
    return None


def colours_in(facts: object, mean: str, std: str, said_by: str) -> Colours | None:
    """Return two rows of numbers by their names; None of anything else, which is not trusted.

    Numbers beyond 1 are of values up to 255, as mmpretrain's are. Where transformers'
    `do_normalize` is false, values are left as they are.
    """
    if not isinstance(facts, Mapping):
        return None
    means, deviations = _row(facts.get(mean)), _row(facts.get(std))
    if not means or len(means) != len(deviations):
        return None
    if facts.get("do_normalize") is False:
        means, deviations = (0.0,) * len(means), (1.0,) * len(means)
    if max(means) > 1:
        means, deviations = (tuple(n / 255 for n in row) for row in (means, deviations))
    if min(means) < 0 or max(means) >= 1 or min(deviations) <= 0:
        return None
    return Colours(means, deviations, said_by)


def _row(values: Any) -> tuple[float, ...]:
    """Return finite numbers; nothing where one is none."""
    if not isinstance(values, list | tuple):
        return ()
    if any(type(value) not in (int, float) or not math.isfinite(value) for value in values):
        return ()
    return tuple(map(float, values))
