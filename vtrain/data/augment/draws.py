"""The random numbers of augmentation: one stream for each decision, one row for each sample."""

from enum import IntEnum

from torch import Tensor

from vtrain import rng


class Stream(IntEnum):
    """What a number decides. A stream of its own keeps decisions independent of each other."""

    CROP = 1
    FLIP = 2
    TRANSFORMS = 3
    MIXING = 4


def draws(indices: Tensor, count: int, seed: int, when: int, stream: Stream) -> Tensor:
    """Draw `count` uniforms for each index; `when` is the epoch, or the step for mixing.

    Shape: (B,) int64 -> (B, count) float32 in [0, 1), on the device of `indices`.
    """
    return rng.uniforms(indices, count, seed, when, stream)
