"""`vtrain eval` of several models, or of several views of each image: the mean of probabilities."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtrain.data.datasets.samples import SplitName
from vtrain.engine.state import Metrics
from vtrain.errors import CheckpointError
from vtrain.files.plain import plain
from vtrain.inference.evaluate import means, sums
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.tasks import MultiLabel
from vtrain.inference.views import Views
from vtrain.report.label_scores import LabelScores
from vtrain.report.paired import Paired, compare
from vtrain.report.predictions import Predictions, aligned
from vtrain.report.scores import Scores
from vtrain.run.evaluate import Evaluation, evaluate_model
from vtrain.run.members import load_any, refuse_other_classes, refuse_twice
from vtrain.run.predict import newest_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One of the models, or the one model without other views."""

    name: str
    metrics: Metrics


@dataclass(frozen=True)
class Together(Evaluation):
    """What the mean of probabilities is worth, beside what it is to be compared with."""

    members: list[Member]
    chosen_by: str
    """The metric by which members are compared."""
    against: str
    """What `gain` is over: the plain figure, or the best member."""
    gain: Paired

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        members = [{"name": one.name, **one.metrics} for one in self.members]
        gain: dict[str, Any] = plain(self.gain)
        return {**self.metrics, "members": members, "gain": {"over": self.against, **gain}}

    def gain_text(self) -> str:
        """Say what was gained, and whether that may be chance."""
        gain = self.gain
        low, high = gain.difference_interval
        told = "" if gain.is_different else ", which may be chance"
        what = "top-1" if self.chosen_by == "val/top1" else "exact match"
        return (
            f"{gain.difference:+.4f} {what} over {self.against} ({gain.accuracy_a:.4f}), "
            f"95 % interval [{low:+.4f}, {high:+.4f}] of the same images, McNemar's "
            f"p = {gain.p_value:.2g}{told}"
        )


def evaluate_together(
    ckpts: Sequence[Path],
    overrides: Iterable[str],
    split: SplitName | None,
    views: Views | None = None,
) -> Together:
    """Evaluate the mean of the probabilities of models, each over `views` of each image.

    Each model sees the images by its own preprocessing; they may be of different kinds if their
    classes have the same names. One model is compared with itself without views, several with the
    best of them on these images, which flatters that one if anything.

    Raises:
        CheckpointError: A model cannot be used, or has other classes than the first.
        DataError: The images cannot be used.
    """
    overrides = list(overrides)
    paths = list(ckpts) or [newest_checkpoint().parent]
    refuse_twice(paths)
    members, shown = [], []
    first: LoadedModel | None = None
    for path in paths:
        loaded = load_any(path)
        first = first or loaded
        refuse_other_classes(loaded, first)
        evaluation, predictions = _evaluated(loaded, overrides, split, views)
        shown.append(Member(str(path), evaluation.metrics))
        members.append(predictions)
    assert first is not None, "there is a path"
    chosen_by = first.task.metrics[0]
    if len(paths) == 1:
        plain_one, base = _evaluated(first, overrides, split, None)
        (viewed,) = members
        gain = compare(*aligned(base, viewed))
        without = [Member(f"{paths[0]} without {views}", plain_one.metrics)]
        said, against = evaluation, "the plain figure"
        return Together(said.metrics, viewed, said.validates, without, chosen_by, against, gain)
    mean = mean_scores(members)
    best = max(range(len(shown)), key=lambda i: shown[i].metrics[chosen_by])
    _, best_scores = aligned(members[0], members[best])  # in the order of the mean
    against, gain = f"the best of them, {shown[best].name}", compare(best_scores, mean)
    # Of no step: each of them has its own.
    about = {name: value for name, value in members[0].about.items() if name != "step"}
    mixed = replace(members[0], logits=mean.logits, about=about)
    if isinstance(mean, LabelScores):
        mixed = replace(mixed, thresholds=tuple(mean.thresholds.tolist()))
    return Together(_metrics(mean), mixed, evaluation.validates, shown, chosen_by, against, gain)


def _evaluated(
    loaded: LoadedModel, overrides: list[str], split: SplitName | None, views: Views | None
) -> tuple[Evaluation, Predictions]:
    evaluation = evaluate_model(loaded, overrides, split, views)
    if evaluation.predictions is None:
        raise CheckpointError("what the model says is not finite", loaded.path, "leave it out")
    return evaluation, evaluation.predictions


def mean_scores(members: Sequence[Predictions]) -> Scores | LabelScores:
    """Return the mean of probabilities, images and classes in the order of the first member's.

    Of several labels an image the thresholds are the means of the members' own.

    Raises:
        DataError: They are not of the same images, or not of the same classes.
    """
    if members[0].has_several:
        return _mean_label_scores(members)
    first = members[0].scores()
    total = first.log_probs.astype(np.float64)
    for other in members[1:]:
        _, scores = aligned(members[0], other)
        assert isinstance(scores, Scores), "of one class an image, as the first"
        # Of logarithms: no probability becomes 0.
        np.logaddexp(total, scores.log_probs, out=total)
    return Scores((total - np.log(len(members))).astype(np.float32), first.targets)


def _mean_label_scores(members: Sequence[Predictions]) -> LabelScores:
    first = members[0].label_scores()
    every: list[LabelScores] = [first]
    for other in members[1:]:
        _, scores = aligned(members[0], other)
        assert isinstance(scores, LabelScores), "of several labels, as the first"
        every.append(scores)
    thresholds = np.mean([one.thresholds for one in every], axis=0)
    logits = MultiLabel(tuple(thresholds)).mean_of([torch.from_numpy(one.logits) for one in every])
    return LabelScores(logits.numpy(), first.targets, thresholds)


def _metrics(scores: Scores | LabelScores) -> Metrics:
    if isinstance(scores, LabelScores):
        return scores.metrics()
    return means(sums(torch.from_numpy(scores.logits), torch.from_numpy(scores.targets)))
