"""Seeded, stratified choices of samples: train and validation parts."""

import torch
from torch import Tensor

from vtrain import rng


def stratified(targets: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Split samples in two parts, the second with `fraction` of each class.

    A class with two samples or more has at least one on each side.

    Shape: targets (N,) -> two sorted int64 index tensors of N elements together.
    """
    first, second = [], []
    for label in targets.bincount().nonzero()[:, 0].tolist():
        members = (targets == label).nonzero()[:, 0]
        members = members[rng.permutation(len(members), seed, label)]
        count = round(len(members) * fraction)
        if fraction > 0 and len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        second.append(members[:count])
        first.append(members[count:])
    return torch.cat(first).sort().values, torch.cat(second).sort().values
