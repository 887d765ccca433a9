"""Answer a question by runs: some configs, each with some seeds, compared on the same images.

A study is a YAML file:

question:  what is asked, in a sentence
seeds:     each config is trained once with each of them
base:      the arm with which the others are compared
overrides: KEY=VALUE of every run; optional
arms:      NAME: {config: FILE, overrides: [KEY=VALUE, ...]}

Its runs are ordinary run folders below --runs: what was stopped goes on when the command is given
again, and machines that share the folder share the work. The figures are those of the last
checkpoint, which no test image has chosen. What is kept of them in --results is enough for the
table and the picture: `--kept FILE` makes both again without the runs.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from scipy.stats import t as student

from benchmarks.runs import fit
from vtrain.bench.machine import processor
from vtrain.errors import DataError, StorageError, VtrainError
from vtrain.files.atomic import make_folder, write_json
from vtrain.files.lock import RunLock
from vtrain.files.runs import RunFolder
from vtrain.files.yaml import read_yaml
from vtrain.report.calibration import ece, equal_width_bins
from vtrain.report.comparison import figures_of
from vtrain.report.paired import compare
from vtrain.report.predictions import Predictions, aligned
from vtrain.run.run_facts import read_run

LEVEL = 0.95
KEPT_FIGURES = ("seconds", "images/s", "peak MB", "parameters", "GMACs")


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared."""

    config: Path
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """What is asked, and by which runs."""

    question: str
    seeds: tuple[int, ...]
    base: str
    arms: dict[str, Arm]
    overrides: tuple[str, ...] = ()

    def runs(self, root: Path) -> Iterator[tuple[str, int, Path]]:
        """Yield each run's arm, seed and folder; every arm once before any a second time."""
        for seed in self.seeds:
            for name in self.arms:
                yield name, seed, root / name / f"seed_{seed}"


@dataclass(frozen=True)
class Trained:
    """What is kept of a run."""

    arm: str
    seed: int
    top1: float
    nll: float
    ece: float
    figures: dict[str, float | None]
    curve: list[tuple[int, float]]
    """Steps and top-1 of its evaluations."""


@dataclass(frozen=True)
class Pair:
    """An arm against the base, of one seed, on the same images."""

    arm: str
    seed: int
    difference: float
    """Top-1 of the arm less that of the base."""
    p_value: float
    """McNemar's exact test."""


@dataclass(frozen=True)
class Kept:
    """Everything that a table and a picture are made of, and where it comes from."""

    question: str
    base: str
    runs: list[Trained]
    pairs: list[Pair]
    about: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Train what is missing, and print the table; 1 while a run is missing."""
    parser = argparse.ArgumentParser(
        "scripts/bench study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", type=Path, nargs="?", help="a file of benchmarks/studies")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as data.root=...")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), metavar="DIR")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="show a study that is done")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture; needs matplotlib")
    given = parser.parse_intermixed_args()
    if (given.study is None) == (given.kept is None):
        parser.error("name a study, or what was kept of one by --kept")
    try:
        kept = read_kept(given.kept) if given.kept else answered(given)
    except VtrainError as error:
        parser.error("; ".join(error.lines()))
    if kept is None:
        return 1
    print(table(kept))
    if given.plot:
        draw(kept, given.plot)
    return 0


def answered(given: argparse.Namespace) -> Kept | None:
    """Train what is missing and keep the figures; None while another machine trains a part."""
    study = read_study(given.study)
    root = given.runs / given.study.stem
    missing = [run for *_, run in study.runs(root) if not RunFolder(run).is_finished]
    for name, seed, run in study.runs(root):
        arm = study.arms[name]
        overrides = (*study.overrides, *arm.overrides, *given.overrides, f"seed={seed}")
        if run in missing and is_free(run):
            fit(arm.config, run, *overrides)
    missing = [run for run in missing if not RunFolder(run).is_finished]
    if missing:
        print(f"{len(missing)} runs are not finished; the first: {missing[0]}")
        return None
    about = {
        "command": shlex.join(["scripts/bench", "study", *sys.argv[1:]]),
        "commit": commit(),
        "processor": processor(),
        "environment": RunFolder(next(study.runs(root))[2]).read_environment(),
    }
    kept = summarised(study, root, about)
    make_folder(given.results)
    write_json(given.results / f"study_{given.study.stem}.json", asdict(kept))
    return kept


def read_study(path: Path) -> Study:
    """Read and check a study.

    Raises:
        DataError: It is no study; the message says where.
    """
    study = _checked(Study, read_yaml(path).data, path)
    if study.base not in study.arms:
        raise DataError(f"base: {study.base} is none of the arms", path)
    if not study.seeds or len(set(study.seeds)) < len(study.seeds):
        raise DataError("seeds: some numbers, each once", path)
    return study


def read_kept(path: Path) -> Kept:
    """Read what was kept of a study.

    Raises:
        DataError: It is something else.
    """
    try:
        return _checked(Kept, json.loads(path.read_text()), path)
    except (OSError, ValueError) as error:
        raise DataError(f"no kept study: {error}", path) from None


def is_free(run: Path) -> bool:
    """Whether no other process trains in a folder."""
    try:
        make_folder(run)
        RunLock(run).close()
    except StorageError:
        return False
    return True


def summarised(study: Study, root: Path, about: dict[str, Any]) -> Kept:
    """Return what is kept of the runs, all of which have finished."""
    found = {(name, seed): of_last(run) for name, seed, run in study.runs(root)}
    trained = [kept_of(name, seed, run, found[name, seed]) for name, seed, run in study.runs(root)]
    pairs = []
    for (name, seed), predictions in found.items():
        if name != study.base:
            paired = compare(*aligned(found[study.base, seed], predictions), draws=1)
            pairs.append(Pair(name, seed, paired.difference, paired.p_value))
    return Kept(study.question, study.base, trained, pairs, about)


def of_last(run: Path) -> Predictions:
    """Return the predictions of a run's last checkpoint, which are made if they are not there."""
    folder = RunFolder(run)
    last = folder.read_metrics()[-1]["step"]  # the last step always has a row
    if not folder.predictions.exists() or _step(folder.predictions) != last:
        command = [sys.executable, "-m", "vtrain", "eval", "--ckpt", str(folder.last)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Predictions.load(folder.predictions)


def kept_of(arm: str, seed: int, run: Path, predictions: Predictions) -> Trained:
    """Return what is kept of one run."""
    scores, facts = predictions.scores(), read_run(run).facts
    figures = figures_of(facts)
    bins = equal_width_bins(scores.confidence)
    return Trained(
        arm,
        seed,
        top1=float(scores.correct.mean()),
        nll=float(scores.loss.mean()),
        ece=ece(scores.confidence, scores.correct, bins),
        figures={name: figures[name] for name in KEPT_FIGURES},
        curve=[(row["step"], row["val/top1"]) for row in facts.rows if "val/top1" in row],
    )


def table(kept: Kept) -> str:
    """Return a line for each arm: means over the seeds, and the difference from the base."""
    arms = list(dict.fromkeys(run.arm for run in kept.runs))
    lines = [kept.question]
    head = f"{'arm':20}{'n':>3}{'top-1':>16}{'NLL':>8}{'ECE':>8}{'images/s':>10}{'minutes':>9}"
    lines.append(f"{head}{'peak MB':>9}   against {kept.base}, points [95 %]; McNemar's p")
    for arm in arms:
        runs = [run for run in kept.runs if run.arm == arm]
        nll, error = (
            statistics.fmean(getattr(run, name) for run in runs) for name in ("nll", "ece")
        )
        rate, seconds, peak = (mean_figure(runs, x) for x in ("images/s", "seconds", "peak MB"))
        line = f"{arm:20}{len(runs):>3}{spread([run.top1 for run in runs]):>16}"
        line += f"{nll:8.3f}{error:8.3f}{rate:10.1f}{seconds / 60:9.1f}{peak:9.0f}"
        lines.append(f"{line}   {difference(kept, arm)}".rstrip())
    about = kept.about
    machine = about.get("environment", {})
    told = {
        "command": about.get("command"),
        "commit": about.get("commit"),
        "machine": f"{about.get('processor')}, {machine.get('device')}",
        "versions": f"torch {machine.get('torch')}, Python {machine.get('python')}",
    }
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in told.items())])


def spread(values: Sequence[float]) -> str:
    """Return the mean, and the standard deviation where there are several; in per cent."""
    mean = f"{100 * statistics.fmean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} +- {100 * statistics.stdev(values):.2f}"


def difference(kept: Kept, arm: str) -> str:
    """Return an arm's mean difference from the base over the seeds, with Student's interval."""
    pairs = [pair for pair in kept.pairs if pair.arm == arm]
    if not pairs:
        return ""
    values = [100 * pair.difference for pair in pairs]
    p_values = ", ".join(f"{pair.p_value:.2g}" for pair in pairs)
    low, high = student_interval(values)
    between = "" if len(values) < 2 else f" [{low:+.2f}, {high:+.2f}]"
    return f"{statistics.fmean(values):+.2f}{between}; {p_values}"


def student_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of the mean of few normal numbers; infinite for a single one."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return -math.inf, math.inf
    half = float(student.ppf((1 + level) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def draw(kept: Kept, path: Path) -> None:
    """Draw each arm's accuracy over the steps, a thin line for each seed."""
    import matplotlib as mpl

    mpl.use("Agg")  # draws without a screen
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for number, arm in enumerate(dict.fromkeys(run.arm for run in kept.runs)):
        for place, run in enumerate(run for run in kept.runs if run.arm == arm):
            steps, accuracies = zip(*run.curve, strict=True) if run.curve else ((), ())
            label = None if place else arm
            axes.plot(steps, [100 * a for a in accuracies], f"C{number}", lw=1, label=label)
    axes.set(title=kept.question, xlabel="step", ylabel="top-1, per cent")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def mean_figure(runs: Sequence[Trained], name: str) -> float:
    """Return the mean of a figure over the runs that have it; not a number where none has."""
    values = [value for run in runs if (value := run.figures.get(name)) is not None]
    return statistics.fmean(values) if values else math.nan


def commit() -> str:
    """Return the commit of the code that trained."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _step(predictions: Path) -> int | None:
    step = Predictions.load(predictions).about.get("step")
    return step if isinstance(step, int) else None


def _checked(kind: Any, data: Any, path: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{where}: {first['msg']}", path) from None


if __name__ == "__main__":
    sys.exit(main())
