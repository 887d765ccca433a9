"""Requests that arrive together are one batch for the model, which one thread alone asks."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from vtrain.serve.served import Array

T = TypeVar("T")


class Batcher:
    """Gathers images, asks the model, and gives each image its own row.

    Args:
        ask: (B, C, S, S) uint8 -> (B, K).
        most: The largest B.
        gather_seconds: How long the first image of a batch waits for those that are on their way.
    """

    def __init__(self, ask: Callable[[Array], Array], most: int, gather_seconds: float) -> None:
        self.ask, self.most, self.gather_seconds = ask, most, gather_seconds
        self.batches: list[int] = []
        """The sizes of the newest batches."""
        self._coming = 0
        self._queue: asyncio.Queue[tuple[Array, asyncio.Future[Array]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "model")  # a model and its recorders are one thread's

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Say that an image is being decoded, for which a batch may wait a little."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    async def probabilities(self, pixels: Array) -> Array:
        """Return what the model says of one image. Shape: (C, S, S) uint8 -> (K,)."""
        answer: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
        await self._queue.put((pixels, answer))
        return await answer

    async def alone(self, work: Callable[[], T]) -> T:
        """Do other work with the model, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Answer for ever."""
        while True:
            batch = await self._gather()
            # Whoever waited too long has gone.
            batch = [(pixels, answer) for pixels, answer in batch if not answer.done()]
            if not batch:
                continue
            self.batches = [*self.batches[-99:], len(batch)]
            images = np.stack([pixels for pixels, _ in batch])  # (B, C, S, S)
            try:
                rows = await self.alone(lambda images=images: self.ask(images))  # type: ignore[misc]
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            # Meanwhile some may have given up, whose future takes no result.
            for row, (_, answer) in zip(rows, batch, strict=True):
                if not answer.done():
                    answer.set_result(row)

    async def _gather(self) -> list[tuple[Array, asyncio.Future[Array]]]:
        """Wait for an image, and take along all that are there or come at once."""
        loop = asyncio.get_running_loop()
        batch = [await self._queue.get()]
        end = loop.time() + self.gather_seconds
        while len(batch) < self.most:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left = end - loop.time()
            # Nothing else is on its way, as for a client that is alone: waiting would gain nothing.
            if left <= 0 or self._coming == 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left))
            except TimeoutError:
                break
        return batch

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)
