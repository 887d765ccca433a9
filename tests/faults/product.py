"""The run that the faults befall, and how its result is compared with an undisturbed one.

Importing this loads all that a command needs, so that the forks of `tests.harness` have it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import vtrain.run.check  # all that the commands import is loaded before the forks
import vtrain.run.evaluate
import vtrain.run.fit
import vtrain.run.predict
import vtrain.run.text.tables  # noqa: F401
from tests.base_configs import FAULT_RUN
from vtrain.files.container import load_checkpoint
from vtrain.files.store import order
from vtrain.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES

for _registry in (LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES):
    _registry.names()  # loads its modules


def fault_config(folder: Path, text: str = FAULT_RUN) -> Path:
    """Write the config of a run that takes a second."""
    path = folder / "tiny.yaml"
    if not path.exists():  # others may be reading it
        path.write_text(text)
    return path


def newest_step(run_dir: Path) -> int:
    """Return the step of the newest published checkpoint, -1 without one, by the names alone."""
    return max((order(path.name)[0] for path in run_dir.glob("step-*.pt")), default=-1)


def result(run_dir: Path) -> dict[str, Any]:
    """Return all that two equal runs must share: the state, the metrics of every step, the best."""
    last, best = (load_checkpoint(run_dir / name) for name in ("last.pt", "best.pt"))
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("train/images_per_second", None)
    return {
        "rows": rows,
        "best step": best["state"]["step"],
        **{f"state.{name}": part for name, part in last["state"].items()},
        **{name: last[name] for name in last if name not in ("state", "config", "is_best")},
    }


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Name the places where two results differ, bit for bit."""
    if type(a) is not type(b):
        yield f"{where}: {type(a).__name__} or {type(b).__name__}"
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a, b):
            yield where
    elif isinstance(a, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b:
                yield from differences(a[key], b[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: in one only"
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{where}: {len(a)} or {len(b)}"
        for number, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from differences(x, y, f"{where}[{number}]")
    elif a != b:
        yield f"{where}: {a} or {b}"
