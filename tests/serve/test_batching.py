"""Requests that arrive together, and whose answers are each one's own."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.serve.cases import HOSTILE, client, colour
from vtrain.serve.batching import Batcher
from vtrain.serve.served import Array


def test_requests_that_arrive_together_are_batches_and_none_is_mixed_up() -> None:
    draw = np.random.default_rng(0)
    colours = [tuple(row) for row in draw.integers(0, 256, (60, 3)).tolist()]
    with client() as (http, api), ThreadPoolExecutor(20) as pool:

        def ask(rgb: tuple[int, ...]) -> dict[str, float]:
            found = http.post("/predict", content=colour(*rgb)).json()["predictions"]
            return {one["class"]: one["probability"] for one in found}

        answers = list(pool.map(ask, colours))
        assert sum(api.batcher.batches) == 60
        assert max(api.batcher.batches) > 1
    for (red, green, blue), found in zip(colours, answers, strict=True):
        total = red + green + blue + 4
        expected = {"red": red + 1, "green": green + 1, "blue": blue + 1, HOSTILE: 1}
        assert found == pytest.approx({name: n / total for name, n in expected.items()}, rel=1e-5)


def test_a_batch_holds_what_waited_and_no_more_than_it_may() -> None:
    sizes: list[int] = []

    def ask(images: Array) -> Array:
        sizes.append(len(images))
        time.sleep(0.02)
        return images.reshape(len(images), -1)[:, :1]

    async def many() -> list[Array]:
        batcher = Batcher(ask, most=4, gather_seconds=0.0)
        task = asyncio.create_task(batcher.run())
        images = [np.full((3, 1, 1), n, np.uint8) for n in range(10)]
        rows = await asyncio.gather(*(batcher.probabilities(image) for image in images))
        task.cancel()
        batcher.close()
        return rows

    rows = asyncio.run(many())
    assert [int(row[0]) for row in rows] == list(range(10))
    assert sizes == [4, 4, 2]
