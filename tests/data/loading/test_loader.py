import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vtrain import rng
from vtrain.data.datasets.samples import ArraySamples, FileSamples
from vtrain.data.loading.batches import Batch, share_of
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.loading.worker import PIECE
from vtrain.data.loading.workers import worker_error
from vtrain.distributed import Rank
from vtrain.errors import DataError, WorkerError


def numbered(count: int) -> ArraySamples:
    """Images that say which they are: sample i is filled with the digits of i in base 200."""
    ids = torch.arange(count)
    colors = torch.stack([ids % 200, ids // 200 % 200, ids // 40_000], dim=1).to(torch.uint8)
    array = colors[:, :, None, None].expand(-1, -1, 4, 4).contiguous()
    return ArraySamples(array, ids * 7 % 10, "numbered")


def ids_in(images: Tensor) -> list[int]:
    colors = images[:, :, 0, 0].long()
    return (colors[:, 0] + 200 * colors[:, 1] + 40_000 * colors[:, 2]).tolist()


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass
class Same:
    """Transforms an image the same way in every epoch."""

    varies: bool = False

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return to_tensor(image)


@dataclass
class Marked:
    """Writes the epoch and the index into the last row, as a random crop would differ by them."""

    varies: bool = True

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        pixels = to_tensor(image).clone()
        pixels[:, -1] = rng.hash_ints(index, epoch) % 251
        return pixels


@dataclass
class Calling:
    """Transforms an image by a function."""

    function: Callable[[Image.Image, int, int], Tensor]
    varies: bool = True

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        return self.function(image, index, epoch)


@pytest.fixture
def close() -> Iterator[list[TrainLoader | EvalLoader]]:
    """Loaders put in this list are closed after the test."""
    loaders: list[TrainLoader | EvalLoader] = []
    yield loaders
    for loader in loaders:
        loader.close()


def bits(batches: Iterator[Batch]) -> list[bytes]:
    return [b.images.numpy().tobytes() + b.targets.numpy().tobytes() for b in batches]


# The order


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


# Bad images


@dataclass
class Spoilt:
    """Samples of which some cannot be read."""

    good: ArraySamples
    bad: set[int]
    targets: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.targets = self.good.targets

    def __len__(self) -> int:
        return len(self.good)

    def image(self, index: int) -> Image.Image:
        if index in self.bad:
            raise DataError("a damaged image", self.name(index))
        return self.good.image(index)

    def name(self, index: int) -> str:
        return f"file {index}"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_bad_image_is_an_error_that_names_it(
    workers: int, cache: str, close: list[TrainLoader]
) -> None:
    loader = TrainLoader(
        Spoilt(numbered(200), {7}), Same(), batch_size=32, seed=0, num_workers=workers, cache=cache
    )
    close.append(loader)
    with pytest.raises(DataError) as caught:
        list(loader.batches(0))
    assert (caught.value.what, caught.value.where) == ("a damaged image", "file 7")
    assert "data.on_bad_image=skip" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transform", [Same(), Marked()])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_skip_leaves_bad_images_out_and_repeats_no_other(
    workers: int,
    transform: Same,
    cache: str,
    caplog: pytest.LogCaptureFixture,
    close: list[TrainLoader],
) -> None:
    bad = {0, 7, 150}
    loader = TrainLoader(
        Spoilt(numbered(400), bad),
        transform,
        batch_size=32,
        seed=0,
        num_workers=workers,
        cache=cache,
        on_bad_image="skip",
    )
    close.append(loader)
    with caplog.at_level(logging.WARNING):
        for epoch in (0, 1):
            batches = list(loader.batches(epoch))
            seen = [i for b in batches for i in b.indices.tolist()]
            assert sorted(seen) == sorted(set(range(400)) - bad)
            assert [i for b in batches for i in ids_in(b.images)] == seen
            assert len(batches) == len(loader)
    left_out = [message for message in caplog.messages if message.startswith("left out")]
    assert sorted(left_out) == [
        f"left out: a damaged image (file {i})" for i in sorted(bad, key=str)
    ]


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_too_many_bad_images_are_an_error_after_all(cache: str) -> None:
    loader = TrainLoader(
        Spoilt(numbered(100), {1, 2}),
        Same(),
        batch_size=32,
        seed=0,
        cache=cache,
        num_workers=0,
        on_bad_image="skip",
    )
    with pytest.raises(DataError, match="2 of 100 images cannot be read, more than 1%"):
        list(loader.batches(0))


def test_a_file_that_vanishes_is_a_bad_image(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    samples = FileSamples(tmp_path, names, torch.zeros(4, dtype=torch.int64))
    (tmp_path / "2.png").unlink()
    loader = TrainLoader(samples, Marked(), batch_size=4, seed=0, cache="none")
    with pytest.raises(DataError, match=r"no such image file \(.*2\.png\)"):
        list(loader.batches(0))


# Workers and faults


def unpicklable(image: Image.Image, index: int, epoch: int) -> Tensor:
    class Local(Exception):
        pass

    raise Local("broken on purpose") if index == 5 else KeyError(index)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [0, 1])
def test_any_exception_of_a_worker_is_one_plain_data_error(
    workers: int, close: list[TrainLoader]
) -> None:
    def transform(image: Image.Image, index: int, epoch: int) -> Tensor:
        return unpicklable(image, index, epoch) if index == 5 else to_tensor(image)

    loader = TrainLoader(numbered(9), Calling(transform), batch_size=3, seed=0, num_workers=workers)
    close.append(loader)
    with pytest.raises(DataError) as caught:
        list(loader.batches(0))
    assert str(caught.value) == (
        "Local while an image was prepared: broken on purpose (numbered[5])"
    )
    assert any("Traceback" in note for note in caught.value.__notes__)


def children() -> set[int]:
    """Process ids of this process's living children."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(status.parent.name))
    return found


def lose(how: str) -> Calling:
    """Make a transform that loses its worker on image 33; the parent's process is spared."""
    parent = os.getpid()

    def transform(image: Image.Image, index: int, epoch: int) -> Tensor:
        if index == 33 and os.getpid() != parent:
            if how == "hang":
                time.sleep(1000)
            elif how == "exit":
                os._exit(0)
            os.kill(os.getpid(), getattr(signal, how))
        return to_tensor(image)

    return Calling(transform)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGBUS", "exit", "hang", "SIGSTOP"])
def test_a_lost_worker_is_a_worker_error_and_nothing_stays_behind(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtrain.data.loading.workers.POLL", 0.5)
    before = children()
    loader = TrainLoader(
        numbered(100), lose(how), batch_size=10, seed=0, num_workers=2, cache="none", timeout=1
    )
    started = time.monotonic()
    with pytest.raises(WorkerError) as caught:
        list(loader.batches(0))
    assert time.monotonic() - started < 1 + 15
    assert caught.value.exit_code == 8
    assert len(caught.value.lines()) == 1
    if how in {"hang", "SIGSTOP"}:
        assert "numbered[" in str(caught.value.where)
    if how == "SIGKILL":
        assert "killed by a signal (Killed)" in caught.value.what
    assert children() <= before


def test_other_errors_are_not_taken_for_a_lost_worker() -> None:
    assert worker_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert worker_error(ValueError("DataLoader worker")) is None


def test_workers_ignore_the_signals_that_are_the_trainers_to_handle(
    close: list[TrainLoader],
) -> None:
    before = children()
    loader = TrainLoader(
        numbered(200), Marked(), batch_size=10, seed=0, num_workers=2, cache="none"
    )
    close.append(loader)
    batches = loader.batches(0)
    next(batches)
    workers = children() - before
    assert len(workers) == 2
    for worker, number in itertools.product(workers, (signal.SIGINT, signal.SIGTERM)):
        os.kill(worker, number)
    assert len(list(batches)) == 19
    assert children() - before == workers


def test_closing_ends_the_workers_and_a_closed_loader_can_be_used_again() -> None:
    before = children()
    loader = TrainLoader(numbered(50), Marked(), batch_size=10, seed=0, num_workers=2, cache="none")
    first = bits(loader.batches(0))
    loader.close()
    assert children() <= before
    assert bits(loader.batches(0)) == first
    loader.close()
    loader.close()


SCRIPT = """
import os, signal, sys, time, torch
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.datasets.samples import ArraySamples

def transform(image, index, epoch):
    if sys.argv[1] == "hang" and index % 10 == 3:
        time.sleep(1000)
    side = 64 if sys.argv[1] == "large" else 4
    return torch.zeros(3, side, side, dtype=torch.uint8)

transform.varies = True
samples = ArraySamples(torch.zeros(1000, 3, 4, 4, dtype=torch.uint8), torch.zeros(1000).long(), "x")
loader = TrainLoader(samples, transform, batch_size=1, seed=0, num_workers=2, cache="none")
batches = loader.batches(0)
first = next(batches)
print("started", flush=True)
if sys.argv[1] == "wait":
    time.sleep(1000)
"""


def start(mode: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "started\n"
    return process


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mode", ["leave", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_program_that_forgets_to_close_ends_without_a_word(mode: str) -> None:
    process = start(mode)
    assert process.wait(timeout=20) == 0
    assert process.stderr.read() == ""
    assert members(process.pid) == []
    process.stdout.close()
    process.stderr.close()


@pytest.mark.timeout(60)
def test_workers_end_with_a_killed_parent() -> None:
    process = start("wait")
    assert len(members(process.pid)) == 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process.pid) == []
    process.stdout.close()
    process.stderr.close()


@pytest.mark.slow
def test_a_tiny_shared_memory_is_enough() -> None:
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine does not let us mount")
    command = f"{mount} && exec {sys.executable} -c '{SCRIPT}' large"
    run = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    assert (run.stdout, run.stderr, run.returncode) == ("started\n", "", 0)


def test_epochs_leave_no_file_open(close: list[TrainLoader]) -> None:
    loader = TrainLoader(
        numbered(200), Marked(), batch_size=20, seed=0, num_workers=2, cache="none"
    )
    close.append(loader)
    descriptors = Path("/proc/self/fd")
    counts = []
    for epoch in range(6):
        bits(loader.batches(epoch))
        counts.append(len(list(descriptors.iterdir())))
    assert len(set(counts)) == 1


def test_too_few_files_for_workers_is_a_worker_error() -> None:
    before = children()
    used = len(list(Path("/proc/self/fd").iterdir()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loader = TrainLoader(numbered(20), Same(), batch_size=2, seed=0, num_workers=8, cache="none")
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        with pytest.raises(WorkerError, match=r"8 data workers need \d+ open files"):
            bits(loader.batches(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert children() <= before


@pytest.mark.slow
def test_workers_start_beside_busy_threads_every_time() -> None:
    stop = threading.Event()

    matrix = torch.randn(64, 64)

    def work() -> None:
        while not stop.is_set():
            matrix @ matrix
            logging.getLogger("busy").debug("x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            loader = TrainLoader(
                numbered(4), Marked(), batch_size=2, seed=0, num_workers=2, cache="none", timeout=20
            )
            assert len(bits(loader.batches(0))) == 2
            loader.close()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_large_batches_travel_in_pieces_that_shared_memory_can_hold(
    close: list[TrainLoader],
) -> None:
    loader = TrainLoader(
        numbered(5 * PIECE + 3),
        Marked(),
        batch_size=4 * PIECE + 1,
        seed=0,
        num_workers=2,
        cache="none",
    )
    close.append(loader)
    assert [len(b.images) for b in loader.batches(0)] == [4 * PIECE + 1, PIECE + 2]


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
