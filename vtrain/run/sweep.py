"""`vtrain sweep`: trials that are ordinary runs, each made by `vtrain fit` in a process of its own.

Nothing is kept in memory that is not on the disk: whatever is killed, the same command goes on.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from vtrain.config import Config
from vtrain.data.progress import Progress
from vtrain.engine.stop import StopSignals
from vtrain.errors import ConfigError, StoppedBySignal
from vtrain.files.atomic import make_folder, write_text
from vtrain.files.lock import claim
from vtrain.files.runs import RunFolder
from vtrain.run.sweep_file import SweepFile, overrides, read_sweep
from vtrain.run.sweep_options import Options, devices, threads
from vtrain.run.sweep_results import Results, brief, ended_text, write_results
from vtrain.run.text.command import argument
from vtrain.sweep.job import Fit, Job, Outcome
from vtrain.sweep.trials import Claim, Trial, Trials

log = logging.getLogger(__name__)
PAUSE = 0.2
"""Seconds between two looks at the runs, which take seconds at least."""
SILENCE = 30.0
"""Seconds after which the runs that are being made are named again."""
FIT = (sys.executable, "-m", "vtrain", "fit")
BASE = Path("trial.yaml")
"""The config of all trials, a copy that stays while the user's file may change."""


def sweep(path: Path, options: Options) -> Results:
    """Run what is left of a sweep, and return what came out.

    Raises:
        ConfigError: The file is wrong, or the folder has another sweep.
        StoppedBySignal: A signal came; every run has saved, and the same command goes on.
        VtrainError: A trial ended with what the next would end with as well.
    """
    file, text, config = read_sweep(path)
    if file.grid and options.trials is not None:
        hint = "leave it out, or write a space in place of the grid"
        raise ConfigError("--trials is not for a grid, which has its cells", "command line", hint)
    folder = options.folder(path)
    if RunFolder(folder).is_started:
        raise ConfigError("this folder holds a run", folder, "name another with --output")
    queue = file.queue(options.trials)
    make_folder(folder)
    trials = Trials(
        folder,
        name=path.stem,
        direction=file.better,
        space=file.dimensions(),
        queue=queue,
        storage=options.storage,
        sampler=file.sampler,
        pruner=file.pruner,
        seed=file.seed,
    )
    plan = json.dumps(file.plan(text))
    _refuse_another(json.loads(trials.begin(plan, queue)), json.loads(plan), path, folder)
    write_text(folder / BASE, text)
    return _Sweep(file, config, folder, trials, options).run()


def _refuse_another(
    begun: Mapping[str, Any], plan: Mapping[str, Any], path: Path, folder: Path
) -> None:
    """Refuse to go on with another search than the one that was begun."""
    changed = sorted(key for key in plan if begun.get(key) != plan[key])
    if changed:
        hint = "restore what has changed, or begin another sweep with --output"
        what = f"the sweep in {folder} was begun with another {' and '.join(changed)}"
        raise ConfigError(what, path, hint)


@dataclass
class _Work:
    """A job that this process looks after, and what is done once it has ended."""

    job: Job
    slot: int
    conclude: Callable[[Outcome], None]


@dataclass
class _Sweep:
    """The loop: as many jobs as there are workers, until nothing is left."""

    file: SweepFile
    config: Config
    folder: Path
    trials: Trials
    options: Options
    _works: list[_Work] = field(default_factory=list)

    def run(self) -> Results:
        """Work until every trial is done, the time is up, or a signal comes."""
        end = None if self.options.hours is None else time.monotonic() + 3600 * self.options.hours
        self._say_start()
        is_over = False
        try:
            with StopSignals() as signals:
                for _ in self._rounds():
                    is_over = end is not None and time.monotonic() > end
                    if signals.received is not None or is_over:
                        break
        finally:
            self._stop()
            results = self.results()
            write_results(results)
        if signals.received is not None:
            what = f"stopped; {self._progress()}; the same command goes on"
            raise StoppedBySignal(what, signals.received)
        if is_over:
            log.info("the time is up; %s; the same command goes on", self._progress())
        return results

    def _rounds(self) -> Iterator[None]:
        """Look after the jobs once, and again, until there is nothing left to do."""
        waited = False
        while True:
            self._look()
            self._begin()
            self._say_standing()
            left = [t.number for t in self.trials.all() if t.state in ("running", "waiting")]
            if not self._works and not left and not self._rerun():
                return
            if not self._works and left and not waited:
                log.info("waiting for trial %s, which another process runs", left[0])
                waited = True
            yield
            time.sleep(PAUSE)

    def _look(self) -> None:
        for work in list(self._works):
            outcome = work.job.step()
            if outcome is not None:
                self._works.remove(work)
                work.conclude(outcome)
                work.job.output.close()
                if outcome.code:
                    raise outcome.error(work.job.output.name)

    def _begin(self) -> None:
        """Give every worker that is free a trial, as far as there are any."""
        for slot in self._free():
            taken = self.trials.take()
            if taken is None:
                return
            log.info("trial %d  %s", taken.number, brief(taken.values))
            job = self._job(self._fits(taken), taken, slot)
            self._works.append(_Work(job, slot, partial(self._conclude, taken)))

    def _rerun(self) -> bool:
        """Begin to train the best again with other seeds; return whether any of that is left."""
        best = self.trials.best()
        left = [] if best is None else [fit for fit in self._again(best) if not fit.is_finished]
        for slot, fit in zip(self._free(), left, strict=False):
            output = claim(self.folder / "output" / f"rerun_{fit.folder.name}.txt")
            if output is None:  # another process has it
                continue
            log.info("again   %s", fit.folder.name)
            job = Job([fit], output, self._environment(slot))
            self._works.append(_Work(job, slot, partial(self._conclude_again, output)))
        return bool(left)

    def _free(self) -> list[int]:
        taken = {work.slot for work in self._works}
        return [slot for slot in range(self.options.workers) if slot not in taken]

    def _job(self, fits: Sequence[Fit], taken: Claim, slot: int) -> Job:
        watch = None if self.file.pruner == "none" else partial(self._is_hopeless, taken.number)
        is_pruned = taken.pruned_at is not None
        return Job(fits, taken.output, self._environment(slot), watch, is_pruned)

    def _is_hopeless(self, number: int, rows: list[dict[str, Any]]) -> bool:
        found = {row["epoch"]: row[self.file.metric] for row in rows if self.file.metric in row}
        return any(self.trials.report(number, *reached) for reached in found.items())

    def _fits(self, trial: Claim | Trial) -> list[Fit]:
        """Return the runs of a trial, one for each seed."""
        folder = self.folder / str(trial.number)
        if self.file.seeds == 1:
            return [self._fit(folder, trial.values)]
        seeds = range(self.config.seed, self.config.seed + self.file.seeds)
        return [self._fit(folder / f"seed_{s}", trial.values | {"seed": s}) for s in seeds]

    def _again(self, best: Trial) -> list[Fit]:
        """Return the runs that train the best with seeds that no trial had."""
        tried = self.file.dimensions().get("seed")
        used = self.config.seed + self.file.seeds - 1 if tried is None else max(tried.examples())
        return [
            self._fit(self.folder / "rerun" / f"{best.number}_seed_{s}", best.values | {"seed": s})
            for s in range(used + 1, used + 1 + self.options.rerun)
        ]

    def _fit(self, folder: Path, values: Mapping[str, Any]) -> Fit:
        values = {**self.file.fixed, "checkpoint.best_metric": self.file.metric, **values}
        typed = [
            *FIT,
            str(self.folder / BASE),
            *overrides(values),
            "--run-dir",
            str(folder),
            "--resume",
        ]
        return Fit(folder, typed)

    def _environment(self, slot: int) -> dict[str, str]:
        """Return the environment of a worker's runs: its device, and its share of the cores."""
        environment = dict(os.environ)
        if self.options.workers > 1:
            environment.setdefault("OMP_NUM_THREADS", str(threads(self.options.workers)))
        if names := devices():
            environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        return environment

    def _conclude(self, taken: Claim, outcome: Outcome) -> None:
        """Record how a trial ended, unless no value of its own ended it: then it goes on later."""
        number, metric = taken.number, self.file.metric
        each = [summary.get("best", {}).get(metric) for summary in outcome.summaries]
        said = f": {outcome.said}" if outcome.said else ""
        if outcome.pruned:
            self.trials.prune(number)
        elif outcome.failed:
            self.trials.fail(number, outcome.failed + said)
        elif outcome.code:
            return
        elif None in each:
            self.trials.fail(number, "ended before an evaluation")
        else:
            self.trials.finish(number, each)
        ended, best = self.trials.all()[number], self.trials.best()
        log.info("%s", ended_text(ended, best, metric, self._progress()))
        write_results(self.results(explained=False), page=False)

    def _conclude_again(self, output: IO[bytes], outcome: Outcome) -> None:
        if outcome.failed or outcome.code:
            # The next round would begin it again.
            raise outcome.error(output.name)

    def _stop(self) -> None:
        """Let every run save and end; they go on with the next start."""
        for work in self._works:
            work.job.stop()
        for work in self._works:
            work.job.wait()
            work.job.output.close()

    def results(self, *, explained: bool = True) -> Results:
        """Return what is known so far, and with `explained` also which keys mattered."""
        trials, best = self.trials.all(), self.trials.best()
        done = [] if best is None else [fit for fit in self._again(best) if fit.is_finished]
        run = None if best is None else self._fits(best)[0].folder
        return Results(
            folder=self.folder,
            name=self.trials.study.study_name,
            metric=self.file.metric,
            direction=self.file.better,
            trials=trials,
            best=best,
            # Of several machines each has the runs that it has made.
            best_run=run if run is not None and RunFolder(run).is_started else None,
            rerun=[float(fit.summary["best"][self.file.metric]) for fit in done],
            importance=self.trials.importance() if explained else {},
            threads=threads(self.options.workers) if self.options.workers > 1 else None,
        )

    def _progress(self) -> str:
        states = [trial.state for trial in self.trials.all()]
        ended = sum(state not in ("running", "waiting") for state in states)
        return f"{ended} of {len(states)} trials have ended"

    def _say_start(self) -> None:
        log.info("sweep   %s", argument(self.folder))
        log.info("trials  %s; %d at a time", self._progress(), self.options.workers)

    def _say_standing(self) -> None:
        """Say now and then how far the runs have come: a trial may take hours."""
        if Progress.silence() < SILENCE:
            return
        for said in filter(None, (work.job.standing(self.file.metric) for work in self._works)):
            log.info("running %s", said)
            Progress.heard()
