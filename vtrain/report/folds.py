"""Folds of one experiment as one run: each image was predicted by a model not trained on it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vtrain.errors import DataError, counted
from vtrain.report.comparison import Comparison, Run
from vtrain.report.facts import RunFacts, flat
from vtrain.report.predictions import joined

FOLD_INDEX = "data.fold.index"


def joined_folds(runs: Sequence[Run], comparison: Comparison) -> Run | None:
    """Return the out-of-sample predictions of all folds of one experiment as one run.

    Returns:
        None where the runs are something else.

    Raises:
        DataError: Their predictions are not all there, or not of folds of the same images.
    """
    if comparison.keys != [FOLD_INDEX]:
        return None
    predictions = [run.predictions for run in runs if run.predictions is not None]
    without = [run.facts.name for run in runs if run.predictions is None]
    if without:
        raise DataError(
            f"of {counted(len(without), 'fold')} there are no predictions, first {without[0]}",
            hint="`vtrain eval` of a run's folder writes them",
        )
    whole = joined(predictions)
    first = runs[0].facts
    facts = RunFacts(
        f"{len(runs)} folds of {first.name}",
        first.folder,
        config=first.config,
        train_counts=_mean_counts([run.facts.train_counts for run in runs]),
        notes=_missing(comparison, flat(first.config)),
    )
    return Run(facts, whole)


def _missing(comparison: Comparison, config: Mapping[str, Any]) -> list[str]:
    """Say which folds the runs do not have."""
    present = {line.values[FOLD_INDEX] for line in comparison.lines}
    missing = [index for index in range(int(config["data.fold.of"])) if index not in present]
    if not missing:
        return []
    which = f"{counted(len(missing), 'fold')} of {config['data.fold.of']}"
    numbers = ", ".join(map(str, missing))
    return [f"The figures are not of all images: {which} missing here, number {numbers}."]


def _mean_counts(counts: Sequence[Mapping[str, int] | None]) -> dict[str, int] | None:
    """Return how many images of each class the folds were trained on, on average."""
    known = [one for one in counts if one is not None]
    if len(known) < len(counts):
        return None
    return {name: round(statistics.fmean(one[name] for one in known)) for name in known[0]}
