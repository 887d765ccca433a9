"""Which samples train and which validate: held-out parts, folds, and small shares for quick runs.

Every choice is stratified, keeps each class in training, and is a function of the targets alone: a
run's `seed` does not change it, so that runs with several seeds are comparable.
"""

import itertools
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import Samples, Source, SplitName, Triple, subset
from vtrain.errors import DataError
from vtrain.registry import Probability


class Fold(BaseModel):
    """One of several equal parts of the training images, used for validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: Annotated[int, Field(ge=2)]
    """How many parts."""
    index: Annotated[int, Field(ge=0)]
    """Which one, from 0."""


@dataclass(frozen=True)
class Split:
    """A source of which only some samples are used, split in another way.

    Args:
        source: The whole dataset.
        only: The split that is taken whichever is asked for, such as to evaluate on what is trained
            on; None takes the one that is asked for.
        val_fraction: The part of the training images that is held out and becomes `val`; at 0, the
            dataset's own validation images are used.
        fold: Hold out this fold instead.
        fraction: The part of each split that is used.
        limit: The number of images of each split that are used at most.

    Raises:
        ValueError: Two of the values contradict each other.
    """

    source: Source
    only: SplitName | None = None
    _: KW_ONLY
    val_fraction: Probability = 0.0
    fold: Fold | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    limit: PositiveInt | None = None
    _read: dict[SplitName, Samples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.fold is not None and self.val_fraction:
            raise ValueError(f"fold and val_fraction ({self.val_fraction}) exclude each other")
        if self.fold is not None and self.fold.index >= self.fold.of:
            raise ValueError(
                f"fold.index ({self.fold.index}) must be less than fold.of ({self.fold.of})"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def mean(self) -> Triple:
        return self.source.mean

    @property
    def std(self) -> Triple:
        return self.source.std

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    def split(self, name: SplitName) -> Samples:
        """Return the samples that are chosen for a split."""
        # First which images belong to the split, then how many of them: a quick run's validation
        # images are a part of a full run's.
        samples = self._whole(self.only or name)
        count = max(round(self.fraction * len(samples)), 1)
        if self.limit is not None:
            count = min(count, self.limit)
        if count >= len(samples):
            return samples
        return subset(samples, stratified_sample(samples.targets, count))

    def _whole(self, name: SplitName) -> Samples:
        if name == "test" or not (self.val_fraction or self.fold):
            return self._official(name)
        # Both parts come from the training images; official validation images stay unused.
        samples = self._official("train")
        if self.fold is not None:
            held_out = in_fold(samples.targets, self.fold)
        else:
            held_out = hold_out(samples.targets, self.val_fraction)
        chosen = held_out if name == "val" else ~held_out
        if not chosen.any():
            raise DataError(f"there are too few images to hold some out of {len(samples)}")
        return subset(samples, chosen.nonzero()[:, 0])

    def _official(self, name: SplitName) -> Samples:
        """Return a split of the source, which is read once: it may be a million files."""
        if name not in self._read:
            self._read[name] = self.source.split(name)
        return self._read[name]


def hold_out(targets: Tensor, fraction: float) -> Tensor:
    """Choose `fraction` of each class, but never a class's only image. Shape: (N,) -> (N,) bool."""
    # Class after class, so that equal distances take the same part of each class.
    spare = torch.cat([members[1:] for members in _classes(targets)])
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    chosen[_evenly_spaced(spare, round(fraction * len(targets)))] = True
    return chosen


def in_fold(targets: Tensor, fold: Fold) -> Tensor:
    """Choose every `fold.of`-th image of each class. Shape: (N,) -> (N,) bool."""
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    chosen[torch.cat(list(_classes(targets)))[fold.index :: fold.of]] = True
    return chosen


def stratified_sample(targets: Tensor, count: int) -> Tensor:
    """Choose `count` samples with the classes in proportion, each at least once if that can be.

    Shape: (N,) -> (count,) int64, sorted.
    """
    groups = list(_classes(targets))
    firsts = torch.cat([members[:1] for members in groups])
    rest = torch.cat([members[1:] for members in groups])
    if count <= len(firsts):  # fewer than classes: some have to be left out
        return _evenly_spaced(firsts, count).sort().values
    return torch.cat([firsts, _evenly_spaced(rest, count - len(firsts))]).sort().values


def balanced_order(targets: Tensor, seed: int, epoch: int) -> Tensor:
    """Order an epoch in which every class comes equally often, however rare it is.

    A sample that comes again has N added to its number for each time before, so that every
    appearance is augmented in its own way. No sample of a class comes a second time before each of
    its class has come once.

    Shape: (N,) -> (N,) int64, each in [0, N * the largest number of times).
    """
    groups = list(_classes(targets, seed, epoch))
    N, K = len(targets), len(groups)
    appearances = []
    for k, members in enumerate(groups):
        count = N * (k + 1) // K - N * k // K  # N / K, rounded so that the sum over k is N
        turns = torch.arange(count)
        appearances.append(members[turns % len(members)] + N * (turns // len(members)))
    # So far class after class: mix them as any other epoch.
    return torch.cat(appearances)[rng.permutation(N, seed, epoch)]


def _classes(targets: Tensor, *seed: int) -> Iterator[Tensor]:
    """Yield the indices of each class that occurs, shuffled."""
    # Stable, and shuffled by what is given alone: the same choice on every machine.
    order = targets.argsort(stable=True)
    counts = [count for count in targets.bincount().tolist() if count]
    bounds = itertools.accumulate(counts, initial=0)
    for label, (first, last) in enumerate(itertools.pairwise(bounds)):
        yield order[first:last][rng.permutation(last - first, *seed, label)]


def _evenly_spaced(items: Tensor, count: int) -> Tensor:
    """Take `count` items at equal distances. Shape: (n,) -> (min(count, n),)."""
    count = min(count, len(items))
    return items[torch.arange(count) * len(items) // max(count, 1)]
