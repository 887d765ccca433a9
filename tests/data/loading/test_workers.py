"""Worker processes: what they share, what they ignore, and what happens when one is lost."""

import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.loading.numbered import Calling, Marked, Same, bits, numbered, to_tensor
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.loading.worker import PIECE
from vtrain.data.loading.workers import check_open_files, check_semaphores, worker_error
from vtrain.errors import DataError, WorkerError


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


def test_where_there_are_no_semaphores_the_key_and_the_folder_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_lock() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("multiprocessing.context.ForkContext.Lock", lambda _: no_lock())
    with pytest.raises(WorkerError, match="cannot start: Permission denied") as refused:
        check_semaphores()
    assert refused.value.where == "data.num_workers"
    assert "/dev/shm" in str(refused.value.hint)


def test_where_open_files_are_not_listed_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    check_open_files(2)
