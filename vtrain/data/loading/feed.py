"""From the samples that make up a batch to its bytes on the device."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vtrain.data.loading.batches import Batch, Share, chunks
from vtrain.data.loading.cache import Cached
from vtrain.data.loading.decoded import Decoded
from vtrain.data.loading.worker import PIECE, Job


class Assembler:
    """Puts decoded images together to batches, in the order in which they are asked for."""

    def __init__(self, decoded: Decoded) -> None:
        self.decoded, self.targets = decoded, decoded.samples.targets

    def from_cache(self, cached: Cached, shares: Iterable[Share]) -> Iterator[Batch]:
        """Yield batches where the cache is: in memory, or on the device."""
        device, count = cached.images.device, len(self.targets)
        targets = self.targets.to(device)
        bad = torch.tensor(list(cached.errors), dtype=torch.int64)
        for share in shares:
            indices = share.indices
            if len(bad):  # rows of zeros, which must not be trained on
                indices = indices[~torch.isin(indices % count, bad)]
            chosen = (indices % count).to(device, non_blocking=True)
            images = self._empty(len(chosen), device)
            torch.index_select(cached.images, 0, chosen, out=images)
            yield Batch(images, targets[chosen], indices, share.start, share.total)

    def from_pieces(self, shares: Sequence[Share], epoch: int) -> Iterator[Batch]:
        """Yield batches in memory. Shares are cut into pieces, which workers decode ahead."""
        jobs = (
            Job(indices.tolist(), epoch)
            for share in shares
            for indices in chunks(share.indices, PIECE)
        )
        ring, pieces = self.decoded.pieces(jobs)
        for share in shares:
            images = self._empty(len(share.indices), torch.device("cpu"))
            kept: list[int] = []
            # Pieces come in the order of the jobs, so the next ones are this share's.
            for _ in range(0, len(images), PIECE):
                piece = next(pieces)
                for index, error in piece.errors:
                    self.decoded.unreadable.report(index, error)
                count = len(piece.indices)
                images[len(kept) : len(kept) + count] = ring[piece.slot, :count]
                kept += piece.indices
            indices = torch.tensor(kept, dtype=torch.int64)
            targets = self.targets[indices % len(self.targets)]
            yield Batch(images[: len(kept)], targets, indices, share.start, share.total)

    def _empty(self, count: int, device: torch.device) -> Tensor:
        """Return room for images; in memory, from where a GPU can copy it by itself."""
        pinned = device.type == "cpu" and self.decoded.device.type == "cuda"
        shape = (count, *self.decoded.shape)
        return torch.empty(shape, dtype=torch.uint8, device=device, pin_memory=pinned)


class Feed:
    """Batches on the device, each copied there while the one before it is computed.

    Args:
        decoded: Where the pixels come from.
    """

    def __init__(self, decoded: Decoded) -> None:
        self.decoded, self._assembler = decoded, Assembler(decoded)

    def batches(self, shares: Sequence[Share], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each share, on the device."""
        if not len(self.decoded.samples):  # a process may have no image to evaluate
            return
        device, cached = self.decoded.device, self.decoded.cached
        if cached is None:
            batches = self._assembler.from_pieces(shares, epoch)
        else:
            batches = self._assembler.from_cache(cached, shares)
        there = cached is not None and cached.images.device.type == device.type
        yield from batches if there or device.type != "cuda" else _ahead(batches, device)


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch to the device while the one before it is computed."""
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: deque[tuple[Batch, torch.cuda.Event]] = deque()
    for batch in batches:
        with torch.cuda.stream(copies):
            ready.append((batch.to(device), copies.record_event()))
        if len(ready) > 1:
            yield _received(*ready.popleft())
    if ready:
        yield _received(*ready.popleft())


def _received(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the computing stream wait for a copy, without the host waiting for either."""
    compute = torch.cuda.current_stream(batch.images.device)
    compute.wait_event(copied)
    for tensor in (batch.images, batch.targets):
        tensor.record_stream(compute)  # its memory is not free for the next copy before it is used
    return batch
