"""The trials of a sweep: each is run by one process at a time, and by another where that one died.

Every trial is waiting from the start, so that there are never more than were asked for. What is
running and held by nobody was left by a process that was killed, and goes on.
"""

import secrets
import socket
import statistics
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from vtrain.errors import ConfigError
from vtrain.files.atomic import make_folder, write_text
from vtrain.files.lock import claim, locked
from vtrain.sweep.space import Dimension
from vtrain.sweep.storage import open_storage

if TYPE_CHECKING:  # the extra may not be installed
    import optuna

Sampler = Literal["tpe", "random", "qmc"]
Pruner = Literal["none", "median", "successive_halving", "hyperband"]
State = Literal["finished", "pruned", "failed", "running", "waiting"]
LOCK = ".sweep.lock"
"""Held while a trial is taken."""
GRACE = 60
"""Seconds in which another machine may still say that a trial is its own."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone works on, until `output` is closed."""

    number: int
    values: dict[str, Any]
    """What its config has, by dotted key."""
    output: IO[bytes]
    """The file that its runs write to; it is locked."""
    pruned_at: int | None
    """The epoch after which it was to stop, where that was decided before."""


@dataclass(frozen=True)
class Trial:
    """What is recorded of a trial."""

    number: int
    state: State
    values: dict[str, Any]
    """By dotted key; not all while it begins."""
    value: float | None
    """Of the metric; of a pruned one the last that it had reached."""
    each: tuple[float, ...]
    """Of each seed."""
    reason: str
    """Why it failed or was pruned, and else nothing."""
    place: str
    """Which folder of which machine has its runs."""


class Trials:
    """The trials of one sweep, which any number of processes may share.

    Args:
        folder: The sweep's folder, which has the journal, the locks and the output of trials.
        name: What the sweep is called in a storage that holds several.
        direction: Whether a larger value of the metric is better, or a smaller one.
        space: What is tried of each key.
        queue: The names of the values that each trial must have, where that is a grid.
        storage: The address of a database; None is the journal in the folder.
        sampler: How values are chosen.
        pruner: When a trial is no longer worth it.
        seed: Of the choice of values.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        direction: Literal["maximize", "minimize"],
        space: Mapping[str, Dimension],
        queue: Sequence[Mapping[str, str]],
        storage: str | None = None,
        sampler: Sampler = "tpe",
        pruner: Pruner = "none",
        seed: int = 0,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.space, self.count = folder, dict(space), len(queue)
        self.direction, self._sampler, self._seed = direction, sampler, seed
        self._is_shared = storage is not None
        make_folder(folder / "output")
        with locked(folder / LOCK):
            self.place = _place(folder)
            self.study: optuna.Study = optuna.create_study(
                storage=open_storage(folder, storage),
                study_name=name,
                direction=direction,
                load_if_exists=True,
                pruner=_pruner(pruner),
            )
            if self.study.direction.name.lower() != direction:
                hint = "restore the file, or name another folder with --output"
                raise ConfigError(f"the sweep was begun to {self.study.direction.name}", name, hint)

    def begin(self, plan: str, queue: Sequence[Mapping[str, str]]) -> str:
        """Record what is searched, and let the trials wait; return what was recorded first."""
        with locked(self.folder / LOCK):
            recorded = self.study.user_attrs.get("plan")
            if recorded is None:
                self.study.set_user_attr("plan", plan)
            elif recorded != plan:
                return str(recorded)
            for values in queue[len(self.study.get_trials(deepcopy=False)) :]:
                self.study.enqueue_trial(dict(values))
        return plan

    def take(self) -> Claim | None:
        """Return a trial to work on: one that a killed process left, else one that waits."""
        from optuna.trial import TrialState

        with locked(self.folder / LOCK):
            trials = self.study.get_trials(deepcopy=False)[: self.count]
            for frozen in trials:
                if frozen.state is TrialState.RUNNING and self._is_here(frozen):
                    found = self._claim(frozen.number)
                    if found is not None:
                        return found
            # Of several machines, which no lock joins, another may take the last that waits.
            while any(frozen.state is TrialState.WAITING for frozen in trials):
                taken = self.study.ask()
                if taken.number < self.count:
                    return self._claim(taken.number)
                self.study._storage.set_trial_state_values(taken._trial_id, TrialState.WAITING)
                trials = self.study.get_trials(deepcopy=False)[: self.count]
        return None

    def _is_here(self, frozen: "optuna.trial.FrozenTrial") -> bool:
        """Return whether a running trial is of this folder, where its lock says who works on it."""
        place = frozen.user_attrs.get("place")
        if place is not None or not self._is_shared:
            return place in (None, self.place)
        begun = frozen.datetime_start
        if begun is None:
            return False
        # One storage's times have a zone and the other's have none.
        now = datetime.now() if begun.tzinfo is None else datetime.now(UTC)
        return (now - begun).total_seconds() > GRACE

    def _claim(self, number: int) -> Claim | None:
        """Take the lock of a running trial, and choose what it has no values of yet."""
        from optuna.trial import TrialState

        output = claim(self.folder / "output" / f"{number}.txt")
        if output is None:
            return None
        # Only now: whoever held the lock until a moment ago may have finished it.
        if self._frozen(number).state is not TrialState.RUNNING:
            output.close()
            return None
        trial = self._trial(number)
        trial.set_user_attr("place", self.place)
        values = {}
        for key, dimension in self.space.items():
            values[key] = dimension.value(trial._suggest(key, dimension.distribution()))
        return Claim(number, values, output, trial.user_attrs.get("pruned_at"))

    def _frozen(self, number: int) -> "optuna.trial.FrozenTrial":
        return self.study.get_trials(deepcopy=False)[number]

    def _trial(self, number: int) -> "optuna.Trial":
        """Return a trial that is running, also where another process has begun it."""
        import optuna

        # The choice is a function of the seed and the trial: a sampler that began anew after a
        # restart would try the same again.
        self.study.sampler = _sampler(self._sampler, self._seed, number)
        return optuna.Trial(self.study, self._frozen(number)._trial_id)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record what a trial has reached after an epoch, and return whether it is to stop."""
        trial = self._trial(number)
        if epoch not in self._frozen(number).intermediate_values:  # said before it was killed
            trial.report(value, epoch)
        if not trial.should_prune():
            return False
        trial.set_user_attr("pruned_at", epoch)
        return True

    def finish(self, number: int, each: Sequence[float]) -> None:
        """Record the metric of each seed of a trial; its value is their mean."""
        self._trial(number).set_user_attr("each", list(each))
        self.study.tell(number, statistics.fmean(each))

    def prune(self, number: int) -> None:
        """Record that a trial was stopped as it was not worth it."""
        from optuna.trial import TrialState

        self.study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """Record that a trial cannot be finished."""
        from optuna.trial import TrialState

        self._trial(number).set_user_attr("reason", reason)
        self.study.tell(number, state=TrialState.FAIL)

    def all(self) -> list[Trial]:
        """Return what is recorded of every trial."""
        return [self._read(f) for f in self.study.get_trials(deepcopy=False)[: self.count]]

    def _read(self, frozen: "optuna.trial.FrozenTrial") -> Trial:
        states: dict[str, State] = {
            "COMPLETE": "finished",
            "PRUNED": "pruned",
            "FAIL": "failed",
            "RUNNING": "running",
            "WAITING": "waiting",
        }
        attributes = frozen.user_attrs
        pruned_at = attributes.get("pruned_at")
        stopped = "" if pruned_at is None else f"stopped after epoch {pruned_at}"
        known = {key: d for key, d in self.space.items() if key in frozen.params}
        return Trial(
            number=frozen.number,
            state=states[frozen.state.name],
            values={key: d.value(frozen.params[key]) for key, d in known.items()},
            value=None if frozen.values is None else frozen.values[0],
            each=tuple(attributes.get("each", ())),
            reason=str(attributes.get("reason", stopped if frozen.state.name == "PRUNED" else "")),
            place=str(attributes.get("place", "")),
        )

    def best(self) -> Trial | None:
        """Return the finished trial with the best value; of equals the first."""
        done = [trial for trial in self.all() if trial.state == "finished"]
        sign = 1 if self.direction == "maximize" else -1
        return max(done, key=lambda t: (sign * (t.value or 0), -t.number), default=None)

    def importance(self) -> dict[str, float]:
        """Return what share of the differences each key explains; nothing of too few trials."""
        finished = [trial for trial in self.all() if trial.state == "finished"]
        if len(finished) < FEWEST or len({trial.value for trial in finished}) == 1:
            return {}
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        with suppress(ValueError, RuntimeError):  # of a key with one value there is no share
            found = get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())
            return {key: float(share) for key, share in found.items()}
        return {}


FEWEST = 8
"""Finished trials from which a key's importance is worth a line."""


def _place(folder: Path) -> str:
    """Return what no other sweep's folder is called, on whichever machine."""
    path = folder / ".place"
    if not path.exists():
        write_text(path, f"{socket.gethostname()}-{secrets.token_hex(6)}")
    return path.read_text(encoding="utf-8")


def _sampler(name: Sampler, seed: int, number: int) -> "optuna.samplers.BaseSampler":
    import optuna

    if name == "qmc":  # it counts in the storage how far its sequence has come
        return optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False)
    own = zlib.crc32(f"{seed} {number}".encode())
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own)


def _pruner(name: Pruner) -> "optuna.pruners.BasePruner":
    import optuna

    match name:
        case "median":
            return optuna.pruners.MedianPruner()
        case "successive_halving":
            return optuna.pruners.SuccessiveHalvingPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()
