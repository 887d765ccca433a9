"""Going on with a run: from which checkpoint, with which config, on which images."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vtrain import distributed
from vtrain.config import Config, rule_on_resume, stored_config
from vtrain.data.datasets.splits import MOVED, Split
from vtrain.data.inspect.fingerprint import check_unchanged
from vtrain.data.progress import said_if_long
from vtrain.errors import CheckpointError, ConfigError, DivergedError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.run.build.colours import is_set
from vtrain.run.build.parts import Parts
from vtrain.run.text.command import resume_command

log = logging.getLogger(__name__)
HOPELESS = 2
"""A loss of so many times that of the start is worse than to begin anew."""


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run goes on from."""

    path: Path
    checkpoint: Checkpoint

    @cached_property
    def config(self) -> Config:
        """The config that the run had when it was saved."""
        return stored_config(self.checkpoint, self.path)

    @property
    def batch_size(self) -> int:
        """The number that the run began with, also where the config asks for `auto`.

        Raises:
            CheckpointError: The stored config has no number, which no run writes.
        """
        size = self.config.train.batch_size
        if size == "auto":
            raise CheckpointError("the stored config has no number as train.batch_size", self.path)
        return size

    def check_config(self, config: Config) -> None:
        """Refuse to go on with a config that no run can go on with from here.

        Raises:
            ConfigError: It names the keys, and what to do.
        """
        check_fixed(self.config, config, self.path)
        # Weights alone have no position; `restore` says so.
        epoch, step = (int(self.checkpoint.state.get(key, 0)) for key in ("epoch", "epoch_step"))
        begun = epoch + (step > 0)
        if config.train.epochs < begun:
            what = f"train.epochs={config.train.epochs} is less than the {begun} that are begun"
            raise ConfigError(what, self.path, f"take {begun} or more; train.max_steps ends it now")

    def with_colours(self, config: Config) -> Config:
        """Return a config with the mean and std that the run began with, where it leaves them open.

        They were those of the weights that it started from, which are not read again.
        """
        if not leaves_colours_open(config):
            return config
        before = self.config.data
        data = config.data.model_copy(update={"mean": before.mean, "std": before.std})
        return config.model_copy(update={"data": data})

    @contextmanager
    def blamed_for_divergence(self, parts: Parts) -> Iterator[None]:
        """Blame these weights if the run diverges again within an epoch, although at a lower rate.

        Without that it would begin with them again and again, as the advice has been followed.
        """
        try:
            yield
        except DivergedError as error:
            step, config = int(self.checkpoint.state["step"]), parts.plan.config
            before, now = (c.optimizer.model_dump()["lr"] for c in (self.config, config))
            if now < before and error.step <= step + parts.plan.steps_per_epoch + 1:
                error.step = min(error.step, step + 1)
            raise

    def restore(
        self, parts: Parts, dataset: dict[str, Any], source: Split, *, accept_data_change: bool
    ) -> None:
        """Bring the state of parts that were built anew to where the run was.

        `dataset` is the fingerprint of the images that are there now in `source`; others than the
        run's may be accepted, as long as the classes are the same.

        Raises:
            DataError: The images have changed, and that is not accepted.
            CheckpointError: It holds no state of this run, but perhaps weights alone.
        """
        state, saved = parts.state, self.checkpoint
        # The images first: of other classes the weights would not even have the right shape, and
        # that message would say less.
        try:
            changed = check_unchanged(saved.dataset, dataset, self.path, accept=accept_data_change)
            state.load_state_dict(saved.state)
            parts.task.restore(saved.thresholds)
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            raise CheckpointError(
                f"no run can go on from it ({reason})",
                self.path,
                "a new run can start from its weights: model.pretrained",
            ) from error
        if changed and source.moves_images:
            log.warning("%s", MOVED)
        if changed:  # with more or fewer images the same step is another place in an epoch
            state.epoch, state.epoch_step = divmod(state.step, parts.plan.steps_per_epoch)
        self._forget(parts)

    def _forget(self, parts: Parts) -> None:
        """Start anew what is counted in another metric than before: values do not compare."""
        changed = differences(self.config, parts.plan.config)
        if parts.plan.metric_of(self.config) != parts.plan.best_metric:
            parts.state.best = None
        watched = {"train.early_stopping.metric", "train.early_stopping.mode"}
        if parts.state.early_stopping is not None and watched & set(changed):
            parts.state.early_stopping.load_state_dict({"best": None, "stale": 0})


def find_resume_point(store: CheckpointStore | None) -> ResumePoint | None:
    """Return the newest intact checkpoint, which the main process alone looks for.

    Of a run that diverged it is the newest one from which it need not diverge again.
    """
    # One process looks, so that all agree although damaged files are renamed on the way; then each
    # reads the file for itself.
    newest = None
    if store is not None:
        run = RunFolder(store.run_dir)
        diverged = run.read_status().get("diverged_at")
        since = went_wrong(run.read_metrics(), diverged) if isinstance(diverged, int) else None
        with said_if_long("looking for the newest intact checkpoint"):
            newest = store.newest_valid(since)
    path = distributed.broadcast_json(None if newest is None else str(newest))
    return None if path is None else ResumePoint(Path(path), Checkpoint.load(Path(path)))


def went_wrong(rows: list[dict[str, Any]], diverged: int) -> int:
    """Return the step from which on the weights of a run that diverged are of no use.

    Args:
        rows: Of metrics.jsonl.
        diverged: The first step whose loss or gradients were not finite.
    """
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    losses = [(step, loss) for step, loss in losses if step < diverged]
    wrong = diverged - 1  # with the weights after that step it began at the latest
    # Backwards: a loss that grew and came down again was no divergence.
    for (before, _), (step, loss) in zip(reversed(losses[:-1]), reversed(losses[1:]), strict=True):
        if loss <= HOPELESS * losses[0][1]:
            break
        # The mean over several steps does not say with which of them it began to grow.
        wrong = before if step == before + 1 else before + 1
    return min(wrong, diverged - 1)


def check_fixed(before: Config, after: Config, path: Path) -> None:
    """Refuse other values of keys without which it would not be the same run.

    `path` is the run's folder, or a checkpoint in it.

    Raises:
        ConfigError: It names the keys, and what to do.
    """
    fixed = [k for k in differences(before, after) if rule_on_resume(after, k) == "fixed"]
    if fixed:
        more = f" and {len(fixed) - 5} more" if len(fixed) > 5 else ""
        run = path if path.is_dir() else path.parent
        raise ConfigError(
            f"the run was started with other values of {', '.join(fixed[:5])}{more}",
            path,
            f"start a new run, or leave them as they were, as `{resume_command(run)}` does",
        )


def differences(before: Config, after: Config) -> list[str]:
    """Return the dotted keys of the values that differ, those of nested sections included."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    if after.train.batch_size == "auto":  # a run that goes on keeps the number it found
        new["train"]["batch_size"] = old["train"]["batch_size"]
    if leaves_colours_open(after):  # as well as the mean and std of the weights it started from
        new["data"] |= {key: old["data"][key] for key in ("mean", "std")}
    return list(_differing(old, new))


def leaves_colours_open(config: Config) -> bool:
    """Return whether a run with this config has the mean and std of the weights it starts from."""
    return config.model.pretrained is not None and not is_set(config)


def _differing(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterable[str]:
    # The keys of both: a component of another name has others.
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differing(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}"


def changes_text(before: Config, after: Config) -> list[str]:
    """Say of each key that differs what it was and what it is, in the words of the config."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return [f"{k} {_shown(old, k)} -> {_shown(new, k)}" for k in differences(before, after)]


def _shown(values: dict[str, Any], dotted: str) -> str:
    value: Any = values
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
