"""`vtrain soup`: the mean of the weights of several runs, of those alone that make it better.

Reference: Wortsman et al., "Model soups", arXiv:2203.05482, recipe 1 (the greedy soup).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from vtrain import distributed
from vtrain.engine.state import Metrics
from vtrain.errors import CheckpointError, ConfigError, StorageError
from vtrain.files.checkpoint import Checkpoint, refuse_other_ending
from vtrain.files.runs import checkpoint_of
from vtrain.inference.averaging import RunningMean
from vtrain.inference.evaluate import evaluate
from vtrain.inference.loaded import check_weights_fit, load_model
from vtrain.inference.tasks import task_for
from vtrain.run.evaluate import Subject, prepare
from vtrain.run.members import refuse_exported, refuse_twice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tasted:
    """A model that might go into the soup."""

    path: Path
    metrics: Metrics
    """Of the model by itself."""
    thresholds: tuple[float, ...]
    is_in: bool = False


@dataclass(frozen=True)
class Soup:
    """What was made, and of what."""

    path: Path
    metrics: Metrics
    members: list[Tasted]
    """The best first, which is the order in which they were tried."""
    chosen_by: str
    """The metric that decided: that of the paper, or mAP of several labels an image."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        members = [
            {"checkpoint": str(one.path), "in_soup": one.is_in, **one.metrics}
            for one in self.members
        ]
        return {"output": str(self.path), **self.metrics, "members": members}


def make_soup(
    ckpts: Sequence[Path], overrides: Sequence[str], output: Path, *, force: bool = False
) -> Soup:
    """Save the greedy soup of checkpoints of one architecture as a checkpoint at `output`.

    From the best model on, the next best goes in if the mean with it is at least as good on the
    validation images of the first; so it is never worse there than the best of them.

    Raises:
        CheckpointError: A checkpoint cannot be used, or is of another architecture or other images.
        ConfigError: There are fewer than two, or `output` is no name of a checkpoint.
        StorageError: There is something at `output`, and `force` is not given.
    """
    if len(ckpts) < 2:
        raise ConfigError("a soup is of several runs", "command line", "name two or more")
    refuse_twice(ckpts)
    refuse_other_ending(output)
    if output.exists() and not force:
        raise StorageError("this file is there already", output, "choose another name or --force")
    for path in ckpts:
        refuse_exported(path, "no weights to average")
    paths = [checkpoint_of(path) for path in ckpts]
    subject = prepare(load_model(paths[0]), overrides)
    first = subject.loaded.checkpoint
    chosen_by = subject.loaded.task.metrics[0]
    tasted = []
    for path in paths:
        checkpoint = Checkpoint.load(path)
        _refuse_others(checkpoint, first, path, paths[0])
        tasted.append(Tasted(path, *_judged(subject, checkpoint.weights, path)))
        log.info("alone   %.4f %s", tasted[-1].metrics[chosen_by], path)
    # Stable: of equals the one that is named first comes first.
    tasted.sort(key=lambda one: -one.metrics[chosen_by])
    weights, (metrics, thresholds), members = _greedy(subject, tasted, chosen_by)
    made = Checkpoint.load(tasted[0].path).with_weights(weights.mean())
    replace(made, metrics=metrics, thresholds=thresholds).save(output)
    return Soup(output, metrics, members, chosen_by)


Judged: TypeAlias = tuple[Metrics, tuple[float, ...]]
"""What weights are worth, and the thresholds that were fitted for that."""


def _greedy(
    subject: Subject, tasted: list[Tasted], chosen_by: str
) -> tuple[RunningMean, Judged, list[Tasted]]:
    """Try the models from the best on, and return the mean, its worth, and which are in it."""
    soup, judged = RunningMean(), (tasted[0].metrics, tasted[0].thresholds)
    soup.add(Checkpoint.load(tasted[0].path).weights)
    members = [replace(tasted[0], is_in=True)]
    for one in tasted[1:]:
        with_it = soup.with_one(Checkpoint.load(one.path).weights)
        found = _judged(subject, with_it.mean(), one.path)
        is_better = found[0][chosen_by] >= judged[0][chosen_by]
        said = "in" if is_better else "out"
        log.info("%-7s %.4f with %s", said, found[0][chosen_by], one.path)
        if is_better:
            soup, judged = with_it, found
        members.append(replace(one, is_in=is_better))
    return soup, judged, members


def _judged(subject: Subject, weights: dict[str, Tensor], path: Path) -> Judged:
    """Evaluate these weights on the images, which are prepared once; fit their thresholds."""
    model = subject.loaded.model
    check_weights_fit(model, weights, path)
    model.load_state_dict(weights)
    normalise = subject.loaded.geometry.normalise
    batches, samples = subject.loader.batches(), subject.samples
    task = task_for(samples.targets, len(subject.loaded.classes))
    tally = task.tally(len(samples), subject.device)
    metrics = evaluate(
        model, batches, normalise, subject.autocast, distributed.all_sum, tally=tally
    )
    return metrics, task.thresholds


def _refuse_others(checkpoint: Checkpoint, first: Checkpoint, path: Path, base: Path) -> None:
    """Refuse a checkpoint whose weights cannot be averaged with the first one's.

    Raises:
        CheckpointError: It names what differs.
    """
    parts = {
        "model": (checkpoint.model.name, first.model.name),
        "classes": (list(checkpoint.classes), list(first.classes)),
        "image size": (checkpoint.model.image_size, first.model.image_size),
        "arguments of the model": (_kind(checkpoint), _kind(first)),
        "preprocessing": (_plain(checkpoint.preprocess), _plain(first.preprocess)),
        "validation images": (checkpoint.dataset.get("val"), first.dataset.get("val")),
    }
    for what, (own, others) in parts.items():
        if own != others:
            hint = "a soup is of one architecture and one set of images; `vtrain eval --ckpt A "
            hint += "--ckpt B` asks others together"
            is_one = what in ("model", "image size", "preprocessing")
            differ = "is not that" if is_one else "are not those"
            raise CheckpointError(f"its {what} {differ} of {base}", path, hint)


def _kind(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the arguments that decide what weights mean: what is dropped in training does not."""
    arguments = checkpoint.model.arguments.items()
    return _plain({key: value for key, value in arguments if not key.startswith("drop_")})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with lists for tuples: either may come out of a file."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
