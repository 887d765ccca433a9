"""What came out of a sweep: a table, `sweep.json`, a page, and the best as a config that runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtrain.errors import counted, printable
from vtrain.files.atomic import write_json, write_text
from vtrain.files.plain import plain
from vtrain.files.runs import RunFolder
from vtrain.run.text.command import argument
from vtrain.run.text.tables import columns
from vtrain.sweep.trials import Trial

BEST = Path("best.yaml")
SHOWN = 10
"""Trials in the table that is printed."""


@dataclass(frozen=True)
class Results:
    """What is known of a sweep."""

    folder: Path
    """The sweep's."""
    name: str
    metric: str
    direction: str
    trials: list[Trial]
    best: Trial | None
    best_run: Path | None
    """The first run of the best trial, where this machine has it."""
    rerun: list[float]
    """The best one's values with seeds that no trial had."""
    importance: Mapping[str, float]
    threads: int | None
    """Of each run, where several share the cores."""

    @property
    def ranked(self) -> list[Trial]:
        """The finished trials, the best first."""
        sign = -1 if self.direction == "maximize" else 1
        done = [trial for trial in self.trials if trial.state == "finished"]
        return sorted(done, key=lambda trial: (sign * (trial.value or 0), trial.number))

    @property
    def warning(self) -> str:
        """What a reader of the best value has to know."""
        if self.best is None:
            return "No trial is finished."
        count = len(self.ranked)
        text = (
            f"The best of {count} is chosen by chance as well: on the images that it was chosen on "
            f"its {self.metric} of {self.best.value:.4f} is better than on others."
        )
        if not self.rerun:
            return f"{text} --rerun 3 trains it again with other seeds."
        mean = sum(self.rerun) / len(self.rerun)
        spread = f" ({min(self.rerun):.4f} to {max(self.rerun):.4f})" * (len(self.rerun) > 1)
        seeds = counted(len(self.rerun), "other seed")
        return f"{text} With {seeds} it reaches {mean:.4f}{spread}."

    def data(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "name": self.name,
            "metric": self.metric,
            "direction": self.direction,
            "best": None if self.best is None else self.best.number,
            "best_run": None if self.best_run is None else str(self.best_run),
            "rerun": self.rerun,
            "warning": self.warning,
            "importance": dict(self.importance),
            "threads": self.threads,
            "trials": plain(self.trials),
        }

    @property
    def command(self) -> str:
        """Return the command that repeats the best trial."""
        prefix = "" if self.threads is None else f"OMP_NUM_THREADS={self.threads} "
        return f"{prefix}vtrain fit {argument(self.folder / BEST)}"


def write_results(results: Results, *, page: bool = True) -> None:
    """Write `sweep.json`, `best.yaml` and, with `page`, `sweep.html` into the sweep's folder."""
    folder = results.folder
    write_json(folder / "sweep.json", results.data())
    if results.best is not None and results.best_run is not None:
        config = RunFolder(results.best_run).config.read_text(encoding="utf-8")
        head = (
            f"# Trial {results.best.number}, the best of {len(results.ranked)}: "
            f"{results.metric} {results.best.value:.6f}.\n# Run: {results.command}\n"
        )
        write_text(folder / BEST, head + config)
    if page:
        from vtrain.report.sweep_page import sweep_page

        write_text(folder / "sweep.html", sweep_page(results.data()))


def results_text(results: Results) -> str:
    """Return the best trials as a table, with the warning and what to type next."""
    rows = [["trial", results.metric, "values"]]
    rows += [[str(t.number), f"{t.value:.4f}", brief(t.values)] for t in results.ranked[:SHOWN]]
    lines = [columns(rows)] if results.ranked else []
    lines += [results.warning]
    if results.best_run is not None:
        lines += [results.command]
    return "\n".join(lines)


def ended_text(trial: Trial, best: Trial | None, metric: str, progress: str) -> str:
    """Say how a trial ended, how far the search has come, and which trial is the best."""
    value = "" if trial.value is None else f" {metric} {trial.value:.4f}"
    reason = f" ({trial.reason})" if trial.reason else ""
    more = "" if best is None else f"; best {best.value:.4f} of trial {best.number}"
    return f"trial {trial.number} {trial.state}{value}{reason}; {progress}{more}"


def brief(values: Mapping[str, Any]) -> str:
    """Return values by dotted key on one line."""
    return printable(" ".join(f"{key}={_short(value)}" for key, value in values.items()))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
