"""What a batch is, and which part of it each process takes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from vtrain.distributed import Rank


@dataclass(frozen=True)
class Batch:
    """This process's share of the images of one step.

    Shape: `images` (B, C, S, S) uint8, `targets` (B,) int64 or (B, K) float32, `indices` (B,)
    int64: which samples, plus N for each time that a sample has come before in this epoch. They
    stay on the CPU, where the augmentation draws: to ask a GPU for them would be to wait for it.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    start: int
    """Position of the first image in the batch of all processes."""
    total: int
    """Images in the batch of all processes."""

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device; from pinned memory this does not wait for the copy."""
        images, targets = (t.to(device, non_blocking=True) for t in (self.images, self.targets))
        return replace(self, images=images, targets=targets)


@dataclass(frozen=True)
class Share:
    """Which samples make up one process's part of one batch, before they are read."""

    indices: Tensor
    start: int
    total: int


def share_of(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the first position of a process's share of a batch, and the one after its last.

    Shares are contiguous and, but for the last image of an odd batch, of even length: images at
    positions 2i and 2i + 1 are partners in mixing and must not be separated.
    """
    # Whole pairs are dealt out: rank r takes those from r / world_size to (r + 1) / world_size.
    pairs = (size + 1) // 2
    first, last = (2 * (r * pairs // world_size) for r in (rank, rank + 1))
    return first, min(last, size)


@cache  # asked for in every step, of one or two sizes
def smallest_share(size: int, world_size: int) -> int:
    """Return how many images of a batch the process with the fewest gets."""
    shares = (share_of(size, rank, world_size) for rank in range(world_size))
    return min(last - first for first, last in shares)


def shares(order: Tensor, batch_size: int, rank: Rank, start: int = 0) -> list[Share]:
    """Return one process's share of each batch of an epoch, without the first `start` batches.

    Shape: `order` (N,) int64, of which the shares are views.
    """
    of_rank = []
    # A run that goes on in the middle of an epoch cuts the same order at the same places.
    for batch in chunks(order[start * batch_size :], batch_size):
        first, last = share_of(len(batch), rank.rank, rank.world_size)
        of_rank.append(Share(batch[first:last], first, len(batch)))
    return of_rank


def chunks(indices: Tensor, size: int) -> Iterator[Tensor]:
    """Yield views of `size` indices, the last one of those that are left; none of no indices."""
    return (indices[first : first + size] for first in range(0, len(indices), size))
