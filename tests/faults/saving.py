"""Experiments on one save into a run folder: what is left after death, failure or damage."""

import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.faults import strace
from vtrain.engine.stop import StopSignals
from vtrain.errors import CheckpointError, StorageError, VtrainError
from vtrain.files import atomic, manifest
from vtrain.files.checkpoint import Checkpoint, ModelDescription
from vtrain.files.container import load_checkpoint, save_checkpoint, verify_file
from vtrain.files.manifest import Entry, Manifest
from vtrain.files.store import CheckpointStore, verify

Trials = Iterator[str | None]
"""For each trial None if all was as promised, else what was not."""


def small(step: int, *, is_best: bool = False) -> Checkpoint:
    """Return a checkpoint of 20 KB that says which one it is."""
    weights = {"w": torch.full((5000,), float(step))}
    return Checkpoint(
        model=ModelDescription("vit_ti", {}, 16, 3),
        classes=("a",),
        preprocess={},
        dataset={},
        config="",
        metrics={},
        state={"model": weights, "ema": None, "step": step},
        is_best=is_best,
    )


def prepared(folder: Path) -> Path:
    """Make a run folder with the checkpoints of steps 1, the best, and 2."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoints = CheckpointStore(folder)
    checkpoints.save(small(1, is_best=True), 0.5)
    checkpoints.save(small(2), 0.4)
    return folder


def save_third(folder: Path) -> None:
    """Save step 3, the new best."""
    CheckpointStore(folder).save(small(3, is_best=True), 0.6)


def problem_after(folder: Path, *, killed: bool) -> str | None:
    """Say what is not as promised after the save of step 3 has died or failed."""
    for name, allowed in (("last.pt", (2, 3)), ("best.pt", (1, 3))):
        step = Checkpoint.load(folder / name).step
        if step not in allowed:
            return f"{name} is of step {step}"
    damaged = [str(found.problem) for found in verify(folder) if found.problem]
    if damaged:
        return damaged[0]
    if not killed and list(folder.glob(f"{atomic.PREFIX}*")):
        return "a failed save left its temporary file"
    return problem_of_resume(folder)


def problem_of_resume(folder: Path) -> str | None:
    """Say what is not as promised when the run goes on."""
    checkpoints = CheckpointStore(folder)
    path = checkpoints.newest_valid()
    step = None if path is None else Checkpoint.load(path).step
    best = Checkpoint.load(folder / "best.pt").step
    if (step, best) not in ((2, 1), (3, 3)):
        return f"a resume would go on from step {step}, and the best is of step {best}"
    checkpoints.save(small(4))
    checkpoints.save(small(5, is_best=True), 0.9)
    steps = [Checkpoint.load(path).step for path in sorted(folder.glob("step-*.pt"))]
    if steps != [4, 5] or list(folder.glob(f"{atomic.PREFIX}*")):
        return f"later saves left {sorted(path.name for path in folder.iterdir())}"
    return None


def checked(check: Callable[[], str | None]) -> str | None:
    """Turn an exception of a check into a finding."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def killed_at_each_call(folder: Path, calls: tuple[str, ...] = strace.CALLS) -> Trials:
    """End the process at every system call of a save in turn."""
    run = prepared(folder / "run")
    for call, number in strace.counted(lambda: save_third(run), folder / "trace"):
        if call not in calls:
            continue
        prepared(run)
        code = strace.killed_at(lambda: save_third(run), call, number)
        found = checked(lambda: problem_after(run, killed=True))
        if code != -9:
            found = f"it was not killed but ended with {code}"
        yield found and f"killed at {call} {number}: {found}"


def failed_at_each_call(folder: Path, errors: tuple[str, ...]) -> Trials:
    """Let every system call of a save fail in turn, with each error."""
    run = prepared(folder / "run")
    points = strace.counted(lambda: save_third(run), folder / "trace")
    for call, number in points:
        if call in ("close", "flock"):  # of files that are read, and of a lock that only informs
            continue
        for error in errors:
            prepared(run)
            code = strace.failed_at(lambda: save_or_say_why(run), call, number, error)
            found = checked(lambda: problem_after(run, killed=False))
            if code != 0:
                found = f"the save ended with {code}, not with an error of ours"
            yield found and f"{error} at {call} {number}: {found}"


def interrupted_at_each_call(folder: Path) -> Trials:
    """Send SIGTERM within every system call of a save in turn: it is saved all the same."""
    run = prepared(folder / "run")

    def work() -> None:
        with StopSignals() as signals:
            save_third(run)
        assert signals.received is not None

    for call, number in strace.counted(lambda: save_third(run), folder / "trace"):
        prepared(run)
        code = strace.killed_at(work, call, number, "SIGTERM")
        found = checked(lambda: problem_after(run, killed=False))
        steps = [path.name for path in run.glob("step-*.pt")]
        if code != 0 or "step-00000005.pt" not in steps:
            found = f"the save ended with {code} and left {steps}"
        yield found and f"SIGTERM at {call} {number}: {found}"


def save_or_say_why(folder: Path) -> None:
    """Save step 3, or fail with one line that a user understands."""
    try:
        save_third(folder)
    except VtrainError as error:
        (line,) = error.lines()
        assert line.isprintable()


def without_space(folder: Path, draw: random.Random) -> Trials:
    """Save where files may not grow beyond a random size."""
    run = prepared(folder / "run")
    size = (run / "last.pt").stat().st_size
    while True:
        prepared(run)
        limit = draw.randrange(size)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        said = "nothing"
        try:
            save_third(run)
        except StorageError as error:
            said = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        found = checked(lambda: problem_after(run, killed=False))
        if "no space" not in said:
            found = f"it said: {said}"
        yield found and f"{limit} of {size} bytes: {found}"


def flipped_bits(folder: Path, draw: random.Random, *, with_manifest: bool) -> Trials:
    """Flip one bit of a checkpoint; without a manifest, bits between the records carry nothing."""
    path = folder / "x.pt"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model": {"w": torch.full((5000,), 1.0)}, "values": torch.randn(1000)}
    written = save_checkpoint(path, content)
    if with_manifest:
        entry = Entry(path.name, 1, written.size, written.sha256)
        manifest.write(folder, Manifest((entry,)))
    whole = path.read_bytes()
    expected = load_checkpoint(path)
    while True:
        position, bit = draw.randrange(len(whole)), draw.randrange(8)
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            yield None
            continue
        same = all(torch.equal(loaded["values"], x) for x in [expected["values"]])
        same &= torch.equal(loaded["model"]["w"], expected["model"]["w"])
        harmless = same and loaded.keys() == expected.keys() and not with_manifest
        yield None if harmless else f"bit {bit} of byte {position} was not noticed"


def truncations(folder: Path, draw: random.Random) -> Trials:
    """Cut the newest checkpoint anywhere; a resume takes the one before it."""
    run = prepared(folder / "run")
    save_third(run)
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    newest = "step-00000003.pt"
    while True:
        for path in run.iterdir():
            path.unlink()
        for name, content in files.items():
            (run / name).write_bytes(content)
        length = draw.randrange(len(files[newest]))
        for name in (newest, "last.pt", "best.pt"):
            os.truncate(run / name, length)

        def check(length: int = length) -> str | None:
            try:
                verify_file(run / newest)
                return f"{length} bytes were taken for a checkpoint"
            except CheckpointError:
                path = CheckpointStore(run).newest_valid()
            step = None if path is None else Checkpoint.load(path).step
            return None if step == 2 else f"a resume would go on from step {step}"

        yield checked(check)
