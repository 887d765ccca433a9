"""Stateless randomness: every number is a hash of where it is used, never of what came before.

The order of an epoch is f(seed, epoch), the augmentation of an image f(seed, epoch, index), dropout
and drop path f(seed, step, rank). A run's position is therefore one integer, and neither the number
of workers nor a restart changes a result. The hash is SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014). Everything is drawn on the CPU, so that
every device sees the same numbers.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15  # the odd integer closest to 2**64 / golden ratio
MIX1, MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_ints(*values: int) -> int:
    """Mix integers into one of 63 bits, fit to seed any generator.

    >>> hash_ints(0, 1) != hash_ints(1, 0)
    True
    """
    state = 0
    for value in values:
        state = _mix((state + GAMMA + value) & MASK)
    return state >> 1


def generator(*values: int) -> torch.Generator:
    """Return a CPU generator whose stream is a function of `values` alone."""
    return torch.Generator().manual_seed(hash_ints(*values))


def permutation(length: int, *values: int) -> Tensor:
    """Return a random order of `range(length)`. Shape: (length,), int64."""
    return torch.randperm(length, generator=generator(*values))


def uniforms(indices: Tensor, count: int, *values: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each index, from a hash of `values`, index and column.

    Row i depends on `indices[i]` and `values` alone, whatever batch it is drawn in.

    Shape: (B,) int64 on the CPU -> (B, count) float32.
    """
    columns = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA)
    base = _mix_array(indices.numpy().view(np.uint64) + np.uint64(hash_ints(*values)))
    bits = _mix_array(base[:, None] + columns) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2**-24))  # 24 bits: exact


def row(index: int, *values: int) -> Callable[[int], float]:
    """Return what draws one index's row of `uniforms`, column by column.

    For a few numbers of one index, where arrays of one row would take longer.
    """
    base = _mix((index + hash_ints(*values)) & MASK)
    return lambda column: (_mix((base + (column + 1) * GAMMA) & MASK) >> 40) * 2**-24


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * MIX1) & MASK
    z = ((z ^ (z >> 27)) * MIX2) & MASK
    return z ^ (z >> 31)


def _mix_array(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX1)  # wraps around, as it must
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX2)
    return z ^ (z >> np.uint64(31))
