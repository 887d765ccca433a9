"""What a run folder says of a run, as plain data: the input of a report beside the predictions."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A key of the config whose value is not the default."""

    key: str
    value: Any
    default: Any


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder describes it; what the folder does not say is empty."""

    name: str
    folder: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Nested, as in `config.yaml`."""
    changes: Sequence[Change] = ()
    rows: Sequence[Row] = ()
    """The objects of `metrics.jsonl`."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    train_counts: Mapping[str, int] | None = None
    """Training images of each class, by its name."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the model: `parameters`, `gmacs`, `checkpoint_bytes`."""

    notes: Sequence[str] = ()
    """What a reader must know of the predictions beforehand."""

    @property
    def is_finished(self) -> bool:
        return self.status.get("state") == "finished"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the dotted keys of a nested mapping with their values."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def curve(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Return steps and values of one metric, without rows that lack it or hold no number."""
    # Logs and evaluations share one file, and each row has the metrics of its own kind.
    chosen = [
        (float(row["step"]), float(row[name]))
        for row in rows
        if is_number(row.get(name)) and is_number(row.get("step"))
    ]
    return [step for step, _ in chosen], [value for _, value in chosen]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a file is a number that can be compared; NaN of a diverged run is none."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def best(rows: Sequence[Row], name: str) -> float | None:
    """Return the best value of a metric: the least loss, the largest of anything else."""
    values = curve(rows, name)[1]
    if not values:
        return None
    return min(values) if name.endswith("loss") else max(values)


def last(rows: Sequence[Row], name: str) -> float | None:
    """Return the last value of a metric."""
    values = curve(rows, name)[1]
    return values[-1] if values else None
