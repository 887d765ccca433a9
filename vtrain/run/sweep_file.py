"""The file of a sweep: which keys of a config are tried, and which metric says what is good."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from vtrain.config import Config, load_config
from vtrain.config.messages import explain
from vtrain.config.recipes import existing_config
from vtrain.config.retired import COMMAND_LINE
from vtrain.engine.early_stopping import Metric
from vtrain.errors import ConfigError, shortened
from vtrain.files.runs import RunFolder
from vtrain.files.yaml import Document, plain_scalar, read_yaml
from vtrain.registry import Section
from vtrain.sweep.space import Dimension, cells, refuse_repeated
from vtrain.sweep.trials import Pruner, Sampler

Direction = Literal["maximize", "minimize"]


class SweepFile(Section):
    """Everything that one sweep is made from."""

    config: str
    """What each trial trains: a YAML file, a recipe or a run folder, as `vtrain fit` takes it."""
    metric: Metric = "val/top1"
    """What a trial is worth: its best value over all evaluations, which is that of `best.pt`."""
    direction: Direction | None = None
    """Which values are better; null: larger accuracies, smaller losses."""
    trials: PositiveInt | None = None
    """How many trials there are; a grid has as many as cells."""
    space: dict[str, Dimension] = Field(default={})
    """What is tried of each key, by its dotted name."""
    grid: dict[str, list[Any]] = Field(default={})
    """Values of each key of which every combination is a trial, in place of `space`."""
    fixed: dict[str, Any] = Field(default={})
    """Other values than the config has, for all trials."""
    sampler: Sampler = "tpe"
    """How values are chosen: from what was good, at random, or evenly spread (`qmc`)."""
    pruner: Pruner = "none"
    """When a trial is stopped before its end: its first seed is compared with the others'."""
    seeds: PositiveInt = 1
    """Runs of each trial, with seeds that follow one another; the mean counts."""
    seed: NonNegativeInt = 0
    """Decides which values are chosen; the runs' own seed is the config's."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.space) == bool(self.grid):
            raise ValueError("a sweep has either a space or a grid")
        if self.space and self.trials is None:
            raise ValueError("a sweep of a space has a number of trials")
        if self.grid and self.trials is not None:
            raise ValueError("a grid has as many trials as cells, so leave out trials")
        for key in sorted(self.tried() & set(self.fixed)):
            raise ValueError(f"{key} is tried and fixed: leave one of them out")
        if "checkpoint.best_metric" in self.tried() | set(self.fixed):
            raise ValueError("checkpoint.best_metric is what the metric says: leave it out")
        if self.seeds > 1 and "seed" in self.tried():
            raise ValueError("the seed is tried, and each trial has several: leave one of them out")
        if self.direction not in (None, self.better):
            raise ValueError(f"{self.metric} is better by {self.better}, so leave out direction")
        for values in self.grid.values():
            refuse_repeated(values)
        return self

    def tried(self) -> set[str]:
        """Return the keys whose values the trials differ in."""
        return set(self.space) | set(self.grid)

    @property
    def better(self) -> Direction:
        """Which values of the metric are better."""
        return "minimize" if self.metric == "val/loss" else "maximize"

    def dimensions(self) -> dict[str, Dimension]:
        """Return what is tried of each key, of a grid as choices."""
        of_grid = {key: Dimension(choices=values) for key, values in self.grid.items()}
        return of_grid or self.space

    def queue(self, trials: int | None = None) -> list[dict[str, str]]:
        """Return what each trial must have: the cells of a grid, and else nothing."""
        if self.grid:
            return list(cells(self.grid))
        return [{} for _ in range(trials or self.trials or 0)]

    def plan(self, config: str) -> dict[str, Any]:
        """Return what may not change while a sweep lasts, with the text of its config."""
        kept = ("metric", "space", "grid", "fixed", "seeds", "seed")
        return {"config": config} | self.model_dump(mode="json", include=set(kept))


def read_sweep(path: Path) -> tuple[SweepFile, str, Config]:
    """Return a sweep, its config's text, and that config with the first values of each key.

    Raises:
        ConfigError: The file or a key in it is wrong; it holds every mistake, one line each.
    """
    if not path.is_file():
        raise ConfigError(
            "the sweep file was not found", path, "give a YAML file with a config: and a space:"
        )
    document = read_yaml(path)
    if {"model", "data", "train"} & set(document.data) and "config" not in document.data:
        hint = f"write another file, with config: {path}, trials: and a space: (docs/en/sweep.md)"
        raise ConfigError("this is a config, not a sweep", path, hint)
    try:
        sweep = SweepFile.model_validate_json(json.dumps(document.data))
        mistakes = list(document.mistakes)
    except ValidationError as error:
        mistakes = [*document.mistakes, *explain(error, document, SweepFile)]
    if mistakes:
        raise ConfigError.all_of(mistakes)
    given = Path(sweep.config)
    run = RunFolder(given)
    file = run.config if run.is_started else existing_config(given)
    if file.is_dir():
        hint = "vtrain fit FOLDER writes one in its run folder; name that"
        raise ConfigError("a sweep needs a config, and this is a folder of images", given, hint)
    config = _checked(sweep, document, file)
    return sweep, file.read_text(encoding="utf-8-sig"), config


def _checked(sweep: SweepFile, document: Document, file: Path) -> Config:
    """Check that the config takes every value of the sweep, before any of them is trained."""
    base = sweep.fixed | {key: d.examples()[0] for key, d in sweep.dimensions().items()}
    places = {
        key: document.where((part, key))
        for part in ("space", "grid", "fixed")
        for key in getattr(sweep, part)
    }
    config, mistakes = _tried(file, base, places)
    for key, dimension in sweep.dimensions().items() if config is not None else ():
        for value in dimension.examples()[1:]:
            mistakes += _tried(file, base | {key: value}, places)[1]
    if config is None or mistakes:
        raise ConfigError.all_of(mistakes)
    return config


def _tried(
    file: Path, values: Mapping[str, Any], places: Mapping[str, str]
) -> tuple[Config | None, list[ConfigError]]:
    """Return the config with these values, or the mistakes at their places in the sweep's file."""
    typed = dict(zip(overrides(values), values, strict=True))
    where = {f"{COMMAND_LINE} '{shortened(text)}'": places[key] for text, key in typed.items()}
    try:
        return load_config(file, list(typed)), []
    except ConfigError as error:
        found = [ConfigError(error.what, error.where, error.hint), *error.others]
        for mistake in found:
            mistake.where = where.get(str(mistake.where), mistake.where)
        return None, found


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Return values by dotted key as a command line has them."""
    return [f"{key}={_text(value)}" for key, value in values.items()]


def _text(value: Any) -> str:
    """Return a value as YAML that is read back as the same."""
    if isinstance(value, str) and plain_scalar(value) == value and value.isidentifier():
        return value
    return json.dumps(value)
