"""The mean of several checkpoints' weights: cheap, and often better than each of them.

Reference: Izmailov et al., "Averaging weights leads to wider optima", arXiv:1803.05407; Wortsman et
al., "Model soups", arXiv:2203.05482.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vtrain.errors import CheckpointError


class RunningMean:
    """The mean of state dicts as they come; integers come from the last one.

    The sum is made in float64 and the mean has the dtypes of the first.
    """

    def __init__(self) -> None:
        # In float64, where the sum of 1000 fp32 checkpoints still rounds less than fp32 does once.
        self._sums: dict[str, Tensor] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self.count = 0

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add one, of which nothing is kept.

        Raises:
            CheckpointError: It is of another model than the first.
        """
        if not self.count:
            self._dtypes = {name: tensor.dtype for name, tensor in state.items()}
            self._sums = {name: widened(tensor) for name, tensor in state.items()}
        else:
            # Before any sum is changed: names or shapes that differ are another model's.
            check_same_model(self._sums, state, self.count + 1)
            for name, tensor in state.items():
                if tensor.is_floating_point():
                    self._sums[name] += tensor
                else:  # such as a count of batches, of which a mean means nothing
                    self._sums[name] = tensor.clone()
        self.count += 1

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of those that were added.

        Raises:
            CheckpointError: There are none.
        """
        if not self.count:
            raise CheckpointError("there is no checkpoint to average")
        return {
            name: (total / self.count).to(self._dtypes[name])
            if total.is_floating_point()
            else total
            for name, total in self._sums.items()
        }

    def with_one(self, state: Mapping[str, Tensor]) -> "RunningMean":
        """Return another mean, of one more."""
        other = RunningMean()
        other._dtypes, other.count = self._dtypes, self.count
        other._sums = {name: widened(total) for name, total in self._sums.items()}
        other.add(state)
        return other


def average_state_dicts(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the state dicts; integers come from the last one.

    Only one of `states` is held at a time, so a generator that loads them keeps memory low.

    Raises:
        CheckpointError: There are none, or they are not of one model.
    """
    mean = RunningMean()
    for state in states:
        mean.add(state)
    return mean.mean()


def widened(tensor: Tensor) -> Tensor:
    """Return a copy, of floats as float64."""
    return tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)


def check_same_model(one: Mapping[str, Tensor], other: Mapping[str, Tensor], number: int) -> None:
    """Refuse state dicts whose names or shapes differ.

    Raises:
        CheckpointError: They do; the message names one of the differences.
    """
    names = sorted(one.keys() ^ other.keys())
    names += [n for n in one if n in other and one[n].shape != other[n].shape]
    if names:
        raise CheckpointError(
            f"checkpoint {number} of those to average is of another model than the first: "
            f"'{names[0]}' differs",
            hint="average checkpoints of one run",
        )
