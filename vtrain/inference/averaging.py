"""The mean of several checkpoints' weights: cheap, and often better than each of them.

Reference: Izmailov et al., "Averaging weights leads to wider optima", arXiv:1803.05407; Wortsman et
al., "Model soups", arXiv:2203.05482.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vtrain.errors import CheckpointError


def average_state_dicts(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the state dicts; integers come from the last one.

    Only one of `states` is held at a time, so a generator that loads them keeps memory low. The sum
    is made in float64 and the result has the dtypes of the first.

    Raises:
        CheckpointError: There are none, or they are not of one model.
    """
    # In float64, where the sum of 1000 fp32 checkpoints still rounds less than fp32 does once.
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    count = 0
    for state in states:
        count += 1
        if count == 1:
            dtypes = {name: tensor.dtype for name, tensor in state.items()}
            sums = {name: widened(tensor) for name, tensor in state.items()}
            continue
        # Before any sum is changed: names or shapes that differ are another model's.
        check_same_model(sums, state, count)
        for name, tensor in state.items():
            if tensor.is_floating_point():
                sums[name] += tensor
            else:  # such as a count of batches, of which a mean means nothing
                sums[name] = tensor.clone()
    if count == 0:
        raise CheckpointError("there is no checkpoint to average")
    return {
        name: (total / count).to(dtypes[name]) if total.is_floating_point() else total
        for name, total in sums.items()
    }


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
