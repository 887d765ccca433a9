"""From the samples that make up a batch to its bytes on the device."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vtrain.data.loading.batches import Batch, Share, chunks
from vtrain.data.loading.cache import Cached
from vtrain.data.loading.decoded import Decoded
from vtrain.data.loading.worker import PIECE, Job


def feed(decoded: Decoded, shares: Sequence[Share], epoch: int) -> Iterator[Batch]:
    """Yield a batch for each share, on the device."""
    if not len(decoded.samples):  # a process may have no image to evaluate
        return
    cached, device = decoded.cached, decoded.device
    if cached is None:
        batches, lies_on = _from_pieces(decoded, shares, epoch), "cpu"
    else:
        batches, lies_on = _from_cache(decoded, cached, shares), cached.images.device.type
    yield from batches if lies_on == device.type else _copied_ahead(batches, device)


def _from_cache(decoded: Decoded, cached: Cached, shares: Iterable[Share]) -> Iterator[Batch]:
    """Yield batches where the cache is: in memory, or on the device."""
    device, count = cached.images.device, len(decoded.samples)
    targets = decoded.samples.targets.to(device)
    bad = torch.tensor(list(cached.errors), dtype=torch.int64)
    for share in shares:
        indices = share.indices
        if len(bad):  # rows of zeros, which must not be trained on
            # Modulo: an index beyond the last sample is a further view of one (see `Batch`).
            indices = indices[~torch.isin(indices % count, bad)]
        chosen = (indices % count).to(device, non_blocking=True)
        images = _empty(decoded, len(chosen), device)
        torch.index_select(cached.images, 0, chosen, out=images)
        yield Batch(images, targets[chosen], indices, share.start, share.total)


def _from_pieces(decoded: Decoded, shares: Sequence[Share], epoch: int) -> Iterator[Batch]:
    """Yield batches in memory. Shares are cut into pieces, which workers decode ahead."""
    jobs = (
        Job(indices.tolist(), epoch) for share in shares for indices in chunks(share.indices, PIECE)
    )
    ring, pieces = decoded.pieces(jobs)
    for share in shares:
        images = _empty(decoded, len(share.indices), torch.device("cpu"))
        kept: list[int] = []
        # Pieces come in the order of the jobs, so the next ones are this share's.
        for _ in range(0, len(images), PIECE):
            piece = next(pieces)
            for index, error in piece.errors:
                decoded.unreadable.report(index, error)
            for index, surplus in piece.surplus.items():
                decoded.unused.note(index, surplus)
            count = len(piece.indices)
            # Copied before the next piece is asked for: a worker then overwrites this slot.
            images[len(kept) : len(kept) + count] = ring[piece.slot, :count]
            kept += piece.indices
        indices = torch.tensor(kept, dtype=torch.int64)
        targets = decoded.samples.targets[indices % len(decoded.samples)]
        yield Batch(images[: len(kept)], targets, indices, share.start, share.total)


def _empty(decoded: Decoded, count: int, device: torch.device) -> Tensor:
    """Return room for images; in memory, from where a GPU can copy it by itself."""
    pinned = device.type == "cpu" and decoded.device.type == "cuda"
    shape = (count, *decoded.shape)
    return torch.empty(shape, dtype=torch.uint8, device=device, pin_memory=pinned)


def _copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy each batch to the device while the one before it is computed."""
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: deque[tuple[Batch, torch.cuda.Event]] = deque()
    for batch in batches:
        with torch.cuda.stream(copies):
            ready.append((batch.to(device), copies.record_event()))
        if len(ready) > 1:  # the copy of this one goes on while the one before it is used
            yield _received(*ready.popleft())
    if ready:
        yield _received(*ready.popleft())


def _received(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the computing stream wait for a copy, without the host waiting for either."""
    compute = torch.cuda.current_stream(batch.images.device)
    compute.wait_event(copied)
    for tensor in (batch.images, batch.targets):
        tensor.record_stream(compute)  # keep the allocator from reusing it while it is read
    return batch
