"""Which of some samples: exact shares of each class, folds, and orders of equal classes."""

import itertools
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vtrain import rng


class Fold(BaseModel):
    """One of several equal parts of the training images, used for validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: Annotated[int, Field(ge=2)]
    """How many parts."""
    index: Annotated[int, Field(ge=0)]
    """Which one, from 0."""


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


def only_ones(targets: Tensor, place: Tensor, held_out: Tensor) -> list[int]:
    """Return the last image by place of each class that would be held out whole.

    Shape: (N,), (N,), (N,) bool.
    """
    left = targets[~held_out].bincount(minlength=int(targets.max()) + 1)
    whole = (left[targets] == 0).nonzero()[:, 0]  # the images of such classes, which are few
    last: dict[int, int] = {}
    for i in whole[place[whole].argsort(stable=True)].tolist():
        last[int(targets[i])] = i
    return list(last.values())


def first_of_each(targets: Tensor, place: Tensor, wanted: Tensor) -> Tensor:
    """Choose as many samples of each class as `wanted` names it, the first by place.

    Shape: (N,), (N,), (n,) int64 -> (n,) int64, sorted.
    """
    order = torch.from_numpy(np.lexsort((place.numpy(), targets.numpy())))  # class after class
    classes = targets[order]
    counts = targets.bincount()
    rank = torch.arange(len(targets)) - (counts.cumsum(0) - counts)[classes]  # within its class
    return order[rank < wanted.bincount(minlength=len(counts))[classes]].sort().values
