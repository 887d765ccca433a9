"""Several runs side by side: what differs, what came of it, and whether that may be chance."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtrain.errors import DataError
from vtrain.report.facts import RunFacts, best, flat, is_number, last
from vtrain.report.label_scores import LabelScores
from vtrain.report.paired import Paired, compare
from vtrain.report.plain import csv_text
from vtrain.report.predictions import Predictions, aligned
from vtrain.report.scores import Array, Scores

REPEATED = ("seed", "data.fold")
"""Keys, or what they begin with, in which repetitions of one experiment differ."""
ABSENT = "absent"
MAX_IMAGES = 24
"""Images listed that one run gets right and the other wrong."""


@dataclass(frozen=True)
class Run:
    """A run and, where its folder has them, its predictions."""

    facts: RunFacts
    predictions: Predictions | None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """What the checkpoint says of the images that the run was begun with: their fingerprint."""


@dataclass(frozen=True)
class Line:
    """A row of the table: the run's values of the keys that differ, and its figures."""

    name: str
    state: str
    values: dict[str, Any]
    figures: dict[str, float | None]


@dataclass(frozen=True)
class Repetitions:
    """Repetitions of one experiment: runs whose configs differ in seed or fold alone."""

    values: dict[str, Any]
    """Of the keys that differ between groups."""
    runs: list[str]
    mean: dict[str, float | None]
    deviation: dict[str, float | None]
    """Standard deviation between the runs, n - 1 below the fraction; None of a single run."""

    @property
    def n(self) -> int:
        return len(self.runs)


@dataclass(frozen=True)
class Disputed:
    """An image that one of two runs gets right; each answer with its probability."""

    image: str
    label: str
    base: tuple[str, float]
    run: tuple[str, float]


@dataclass(frozen=True)
class Against:
    """A run against the base, on the same images; `reason` says why there is no comparison."""

    name: str
    base: str
    paired: Paired | None
    reason: str | None
    lost: list[Disputed]
    """Images that only the base gets right, those first of which both are the surest."""
    won: list[Disputed]
    """Images that only this run gets right."""


@dataclass(frozen=True)
class Comparison:
    """What there is to say of several runs."""

    keys: list[str]
    """Of the config, where the runs differ."""
    figures: list[str]
    lines: list[Line]
    groups: list[Repetitions]
    """Empty where no two runs are repetitions of each other."""
    against: list[Against]


def compare_runs(runs: Sequence[Run], base: Run | None = None) -> Comparison:
    """Compare runs, and each of them with `base` where there is one."""
    configs = [flat(run.facts.config) for run in runs]
    keys = differing_keys(configs)
    lines = [
        Line(
            run.facts.name,
            str(run.facts.status.get("state", "unknown")),
            {key: config.get(key, ABSENT) for key in keys},
            figures_of(run.facts),
        )
        for run, config in zip(runs, configs, strict=True)
    ]
    told = [
        name
        for name in (lines[0].figures if lines else {})
        if any(line.figures[name] is not None for line in lines)
    ]
    others = [run for run in runs if run is not base]
    return Comparison(
        keys,
        told,
        lines,
        repetitions(lines, keys),
        [] if base is None else [against(run, base) for run in others],
    )


def differing_keys(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all configs, in their order."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(c.get(key, ABSENT) != configs[0].get(key, ABSENT)
                                       for c in configs)]  # fmt: skip


def figures_of(facts: RunFacts) -> dict[str, float | None]:
    """Return what a run came to, None where its folder does not say."""
    summary = facts.summary
    peak = _number(summary.get("peak_memory_bytes"))
    size = _number(facts.model.get("checkpoint_bytes"))
    return {
        "best top-1": best(facts.rows, "val/top1"),
        "last top-1": last(facts.rows, "val/top1"),
        "last top-5": last(facts.rows, "val/top5"),
        "best mAP": best(facts.rows, "val/map"),
        "last mAP": last(facts.rows, "val/map"),
        "last F1": last(facts.rows, "val/f1"),
        "best loss": best(facts.rows, "val/loss"),
        "last loss": last(facts.rows, "val/loss"),
        "train loss": last(facts.rows, "train/loss"),
        "epochs": last(facts.rows, "epoch"),
        "seconds": _number(summary.get("wall_seconds")),
        "images/s": _number(summary.get("images_per_second")),
        "peak MB": None if peak is None else peak / 1e6,
        "parameters": _number(facts.model.get("parameters")),
        "GMACs": _number(facts.model.get("gmacs")),
        "file MB": None if size is None else size / 1e6,
    }


def repetitions(lines: Sequence[Line], keys: Sequence[str]) -> list[Repetitions]:
    """Group the runs that differ in seed or fold alone, in the order in which they come.

    Of runs that differ in nothing the first counts: a copy says nothing of the spread.
    """
    shared = [key for key in keys if not key.startswith(REPEATED)]
    groups: dict[str, list[Line]] = {}
    for line in originals(lines):
        # As text: a value may be a list, which cannot be a key.
        groups.setdefault(repr([line.values[key] for key in shared]), []).append(line)
    if all(len(group) == 1 for group in groups.values()):
        return []
    return [
        Repetitions(
            {key: group[0].values[key] for key in shared},
            [line.name for line in group],
            *_mean_and_deviation(group),
        )
        for group in groups.values()
    ]


def originals(lines: Sequence[Line]) -> list[Line]:
    """Return the lines without those whose values an earlier one has already."""
    # From the end, so that the first of equal ones is what stays.
    first = {repr(line.values): number for number, line in reversed(list(enumerate(lines)))}
    return [lines[number] for number in sorted(first.values())]


def _mean_and_deviation(
    group: list[Line],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return both of each figure, over the runs that have it."""
    means: dict[str, float | None] = {}
    deviations: dict[str, float | None] = {}
    for name in group[0].figures:
        values = [v for line in group if (v := line.figures[name]) is not None]
        means[name] = statistics.fmean(values) if values else None
        deviations[name] = statistics.stdev(values) if len(values) > 1 else None
    return means, deviations


def against(run: Run, base: Run) -> Against:
    """Compare a run's predictions with the base's, where both are of the same images."""
    name, base_name = run.facts.name, base.facts.name
    for one in (base, run):
        if one.predictions is None:
            reason = f"{one.facts.name} has no predictions"
            return Against(name, base_name, None, reason, [], [])
    assert run.predictions is not None
    assert base.predictions is not None
    try:
        a, b = aligned(base.predictions, run.predictions)
    except DataError as error:
        return Against(name, base_name, None, error.what, [], [])
    if isinstance(a, LabelScores) or isinstance(b, LabelScores):
        return Against(name, base_name, compare(a, b), None, [], [])
    # The base names both: `aligned` has put the run's images and classes in its order.
    lost = disputed(base.predictions, a, b, a.correct & ~b.correct)
    won = disputed(base.predictions, a, b, b.correct & ~a.correct)
    return Against(name, base_name, compare(a, b), None, lost, won)


def disputed(named: Predictions, a: Scores, b: Scores, which: Array) -> list[Disputed]:
    """Return up to `MAX_IMAGES` of some images with both answers. Shape: `which` (N,) bool."""
    places = np.flatnonzero(which)
    surer = np.minimum(a.confidence, b.confidence)[places]
    # `lexsort` takes its last key first; the number settles ties, so that a page can be repeated.
    names = named.classes
    return [
        Disputed(
            named.ids[i],
            names[a.targets[i]],
            *((names[s.predicted[i]], float(s.confidence[i])) for s in (a, b)),
        )
        for i in places[np.lexsort((places, -surer))][:MAX_IMAGES].tolist()
    ]


def comparison_rows(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """Return head and rows of the table: a run, its differing values, its figures."""
    head = ["run", "state", *comparison.keys, *comparison.figures]
    rows = [
        [
            line.name,
            line.state,
            *(line.values[key] for key in comparison.keys),
            *(line.figures[name] for name in comparison.figures),
        ]
        for line in comparison.lines
    ]
    return head, rows


def comparison_csv(comparison: Comparison) -> str:
    """Return the table for a spreadsheet."""
    return csv_text(*comparison_rows(comparison))


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None
