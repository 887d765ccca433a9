"""Which images a batch holds, whoever decodes them, wherever they are kept and whoever goes on."""

import itertools
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.data.loading.numbered import Marked, Same, bits, ids_in, numbered, to_tensor
from vtrain import rng
from vtrain.data.datasets.samples import FileSamples
from vtrain.data.loading.batches import share_of
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.distributed import Rank


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_is_the_dataset_exactly_once(world_size: int, workers: int) -> None:
    samples, seen = numbered(211), []
    for rank in range(world_size):
        loader = TrainLoader(
            samples,
            Marked(),
            batch_size=50,
            seed=3,
            rank=Rank(rank, world_size=world_size),
            num_workers=workers,
            cache="none",
        )
        for batch in loader.batches(epoch=1):
            assert ids_in(batch.images) == batch.indices.tolist()
            assert (batch.targets == samples.targets[batch.indices]).all()
            seen += batch.indices.tolist()
        loader.close()
    assert sorted(seen) == list(range(211))


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_that_others_go_on_with_is_the_dataset_exactly_once(
    world_size: int, workers: int, close: list[TrainLoader]
) -> None:
    """After a stop, another number of processes and of workers begins in the middle."""
    samples = numbered(211)

    def loader(rank: int, ranks: int, num_workers: int) -> TrainLoader:
        made = TrainLoader(
            samples,
            Marked(),
            batch_size=25,
            seed=3,
            rank=Rank(rank, world_size=ranks),
            num_workers=num_workers,
            cache="none",
        )
        close.append(made)
        return made

    seen = []
    for rank in range(world_size):
        for batch in itertools.islice(loader(rank, world_size, workers).batches(1), 4):
            seen += ids_in(batch.images)
    assert len(seen) == 100
    for rank in range(ranks := world_size % 3 + 1):
        for batch in loader(rank, ranks, (workers + 2) % 5).batches(1, start=4):
            seen += ids_in(batch.images)
    assert sorted(seen) == list(range(211))


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 100, 1000])
def test_batches_are_slices_of_the_permutation_and_ranks_share_them(batch_size: int) -> None:
    samples = numbered(100)
    order = rng.permutation(100, 5, 2).tolist()
    slices = [order[i : i + batch_size] for i in range(0, 100, batch_size)]
    for world_size in (1, 2, 3, 4):
        ranks = [
            TrainLoader(
                samples,
                Same(),
                batch_size=batch_size,
                seed=5,
                rank=Rank(rank, world_size=world_size),
            )
            for rank in range(world_size)
        ]
        assert all(len(loader) == len(slices) for loader in ranks)
        for expected, *shares in zip(slices, *(r.batches(2) for r in ranks), strict=True):
            assert list(itertools.chain(*(b.indices.tolist() for b in shares))) == expected
            for batch in shares:
                assert batch.total == len(expected)
                assert expected[batch.start : batch.start + len(batch.indices)] == (
                    batch.indices.tolist()
                )


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_shares_keep_mixing_partners_together(world_size: int) -> None:
    for size in range(1, 40):
        shares = [share_of(size, rank, world_size) for rank in range(world_size)]
        assert shares[0][0] == 0
        assert shares[-1][1] == size
        assert all(a[1] == b[0] for a, b in itertools.pairwise(shares))
        assert all(first % 2 == 0 for first, _ in shares if first < size)
        lengths = [last - first for first, last in shares]
        assert max(lengths) - min(lengths) <= 2 + size % 2


def test_each_epoch_has_its_own_order_which_the_seed_decides() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = TrainLoader(numbered(50), Same(), batch_size=50, seed=seed)
        return next(loader.batches(epoch)).indices.tolist()

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(4, 2) == order(4, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_entered_in_the_middle_goes_on_with_the_same_bits(
    workers: int, close: list[TrainLoader]
) -> None:
    loader = TrainLoader(
        numbered(95), Marked(), batch_size=10, seed=0, num_workers=workers, cache="none"
    )
    close.append(loader)
    whole = bits(loader.batches(3))
    for start in (0, 1, 4, 9, 10):
        assert bits(loader.batches(3, start=start)) == whole[start:]


def test_workers_and_caches_change_no_bit(tmp_path: Path, close: list[TrainLoader]) -> None:
    source = numbered(150)
    for i in range(150):
        source.image(i).save(tmp_path / f"{i}.png")
    files = FileSamples(tmp_path, [f"{i}.png" for i in range(150)], source.targets)
    for transform in (Same(), Marked()):
        found = set()
        for samples in (source, files):
            for workers, cache in itertools.product((0, 2), ("none", "ram", "device", "auto")):
                loader = TrainLoader(
                    samples, transform, batch_size=64, seed=0, num_workers=workers, cache=cache
                )
                close.append(loader)
                found.add(tuple(bits(loader.batches(0)) + bits(loader.batches(1))))
                loader.close()
        assert len(found) == 1


def test_an_iterator_left_in_the_middle_does_not_spoil_the_next(close: list[TrainLoader]) -> None:
    loader = TrainLoader(
        numbered(1000), Marked(), batch_size=100, seed=0, num_workers=2, cache="none"
    )
    close.append(loader)
    for _ in range(3):
        next(loader.batches(0))
    assert len(bits(loader.batches(1))) == 10


def test_loading_draws_nothing_from_the_global_generator(close: list[TrainLoader]) -> None:
    before = torch.get_rng_state()
    loader = TrainLoader(numbered(20), Same(), batch_size=4, seed=0, num_workers=1, cache="none")
    close.append(loader)
    bits(loader.batches(0))
    assert torch.equal(torch.get_rng_state(), before)


# Evaluation


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 101])
def test_evaluation_sees_every_image_exactly_once(count: int) -> None:
    for world_size, batch_size in itertools.product((1, 2, 3, 4), (1, 3, 8, 64)):
        seen = []
        for rank in range(world_size):
            loader = EvalLoader(
                numbered(count),
                to_tensor,
                batch_size=batch_size,
                rank=Rank(rank, world_size=world_size),
                on_bad_image="error",
                num_workers="auto",
                cache="auto",
            )
            batches = list(loader.batches())
            assert len(batches) == len(loader)
            for batch in batches:
                assert ids_in(batch.images) == batch.indices.tolist()
                assert (batch.indices % world_size == rank).all()
                assert (batch.targets == batch.indices * 7 % 10).all()
                seen += batch.indices.tolist()
        assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_datasets_smaller_than_a_batch_or_the_ranks_are_complete(
    count: int, world_size: int
) -> None:
    seen, steps = [], set()
    for rank in range(world_size):
        loader = TrainLoader(
            numbered(count), Same(), batch_size=16, seed=0, rank=Rank(rank, world_size=world_size)
        )
        batches = list(loader.batches(0))
        steps.add(len(batches))
        for batch in batches:
            assert batch.images.shape == (len(batch.indices), 3, 4, 4)
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(count))
    assert steps == {len(loader)}  # every rank makes the same number of steps


@pytest.mark.parametrize(
    ("varies", "feed", "text"),
    [
        (True, {"cache": "none"}, "6 images decoded as they are needed"),
        (True, {"cache": "none", "num_workers": 1}, "decoded as they are needed, by 1 worker"),
        (True, {"cache": "ram", "num_workers": 2}, "beforehand, 0.0 MiB in memory, by 2 workers"),
        (False, {"cache": "ram", "num_workers": 2}, "6 images prepared beforehand, 0.0 MiB in"),
    ],
)
def test_a_loader_says_once_where_its_images_come_from(
    tmp_path: Path, close, caplog, varies: bool, feed: dict[str, object], text: str
) -> None:
    caplog.set_level(logging.INFO)
    names = [f"{index}.png" for index in range(6)]
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    samples = FileSamples(tmp_path, names, torch.zeros(6, dtype=torch.int64))
    loader = TrainLoader(samples, Marked(varies), batch_size=4, seed=0, **feed)
    close.append(loader)
    for epoch in range(2):
        assert sum(len(batch.images) for batch in loader.batches(epoch)) == 6
    (line,) = [record.message for record in caplog.records if record.message.startswith("input")]
    assert text in line


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_some_images_can_be_taken_as_the_first_epoch_shows_them(cache: str) -> None:
    samples, chosen = numbered(100), torch.tensor([70, 3, 99])
    batch = TrainLoader(samples, Marked(), batch_size=8, seed=0, cache=cache).take(chosen)
    assert (batch.indices.tolist(), batch.start, batch.total) == ([70, 3, 99], 0, 3)
    assert batch.targets.tolist() == [int(samples.targets[i]) for i in (70, 3, 99)]
    for image, index in zip(batch.images, (70, 3, 99), strict=True):
        assert torch.equal(image, Marked()(samples.image(index), index, 0))
