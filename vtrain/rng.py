"""Stateless randomness: every number is a hash of where it is used, never of what came before.

The order of an epoch is f(seed, epoch), the augmentation of an image f(seed, epoch, index), dropout
and drop path f(seed, step, rank). A run's position is therefore one integer, and neither the number
of workers nor a restart changes a result. The hash is SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014), in int64 arithmetic that wraps around, so
that every device gives the same bits.
"""

import math

import torch
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

    Shape: (B,) int64 -> (B, count) float32, on the device of `indices`.
    """
    columns = torch.arange(1, count + 1, device=indices.device)
    base = _mix_tensor(indices + _signed(hash_ints(*values)))
    bits = _mix_tensor(base[:, None] + columns * _signed(GAMMA))
    return _logical_shift(bits, 40).to(torch.float32) * 2.0**-24  # 24 bits: exact in float32


def normals(indices: Tensor, count: int, *values: int) -> Tensor:
    """Draw `count` standard normal numbers for each index, by the Box-Muller transform.

    Shape: (B,) int64 -> (B, count) float32, on the device of `indices`.
    """
    radius, angle = uniforms(indices, 2 * count, *values).chunk(2, dim=1)
    return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * MIX1) & MASK
    z = ((z ^ (z >> 27)) * MIX2) & MASK
    return z ^ (z >> 31)


def _mix_tensor(z: Tensor) -> Tensor:
    z = (z ^ _logical_shift(z, 30)) * _signed(MIX1)
    z = (z ^ _logical_shift(z, 27)) * _signed(MIX2)
    return z ^ _logical_shift(z, 31)


def _logical_shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # `>>` alone would copy the sign bit


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
