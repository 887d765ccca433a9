"""Going on with a run: from which checkpoint, with which config, on which images."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vtrain import distributed
from vtrain.config import Config, may_change_on_resume, stored_config
from vtrain.data.inspect.fingerprint import check_unchanged
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.run.build.parts import Parts


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
        """Refuse to go on with a config that has changed in a way that changes the result.

        Raises:
            ConfigError: It names the keys.
        """
        differing = differences(self.config, config)
        changed = [key for key in differing if not may_change_on_resume(config, key)]
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ConfigError(
                f"the run was started with other values of {', '.join(changed[:5])}{more}",
                self.path,
                f"use the run's own {RunFolder.config}, or start a new run",
            )

    def restore(self, parts: Parts, dataset: dict[str, Any], *, accept_data_change: bool) -> None:
        """Bring the state of parts that were built anew to where the run was.

        `dataset` is the fingerprint of the images that are there now; others than the run's may be
        accepted, as long as the classes are the same.

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
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            raise CheckpointError(
                f"no run can go on from it ({reason})",
                self.path,
                "a new run can start from its weights: model.pretrained",
            ) from error
        if changed:  # with more or fewer images the same step is another place in an epoch
            state.epoch, state.epoch_step = divmod(state.step, parts.plan.steps_per_epoch)


def find_resume_point(store: CheckpointStore | None) -> ResumePoint | None:
    """Return the newest intact checkpoint, which the main process alone looks for."""
    # One process looks, so that all agree although damaged files are renamed on the way; then each
    # reads the file for itself.
    newest = store.newest_valid() if store is not None else None
    path = distributed.broadcast_json(None if newest is None else str(newest))
    return None if path is None else ResumePoint(Path(path), Checkpoint.load(Path(path)))


def differences(before: Config, after: Config) -> list[str]:
    """Return the dotted keys of the sections' values that differ."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    keys: list[str] = []
    for section in new:
        if isinstance(new[section], dict):
            # The keys of both: a component of another name has others.
            both = {**old[section], **new[section]}
            keys += [
                f"{section}.{key}" for key in both if old[section].get(key) != new[section].get(key)
            ]
        elif old[section] != new[section]:
            keys.append(section)
    return keys
