"""The lock of a run folder, between real processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtrain.errors import StorageError
from vtrain.files.lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from vtrain.files.lock import RunLock
from vtrain.errors import StorageError
try:
    lock = RunLock(Path(sys.argv[1]))
except StorageError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def test_the_second_taker_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path),
        pytest.raises(StorageError, match=rf"locked by pid {os.getpid()} on host \S+ since 20"),
    ):
        RunLock(tmp_path)


def test_a_closed_lock_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(3):
        with RunLock(tmp_path):
            pass


def test_the_lock_of_a_killed_owner_is_free_at_once(tmp_path: Path) -> None:
    with start(tmp_path, 60) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=f"locked by pid {owner.pid}"):
            RunLock(tmp_path)
        owner.kill()
        owner.wait()
        with RunLock(tmp_path):
            pass


def test_a_forked_worker_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from vtrain.files.lock import RunLock
lock = RunLock(Path({str(tmp_path)!r}))
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        owner.kill()
    try:
        os.kill(worker, 0)  # it lives
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_of_many_that_start_together_exactly_one_gets_the_lock(tmp_path: Path) -> None:
    starters = [start(tmp_path, 60) for _ in range(8)]
    try:
        said = []
        for starter in starters:
            assert starter.stdout is not None
            said.append(starter.stdout.readline())
        assert said.count("held\n") == 1
        refused = [line for line in said if line != "held\n"]
        assert all("the run folder is locked by" in line for line in refused)
    finally:
        for starter in starters:
            starter.kill()
            starter.communicate()


def test_what_the_lock_file_said_before_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("x" * 10_000)
    with RunLock(tmp_path), pytest.raises(StorageError, match=f"pid {os.getpid()} "):
        RunLock(tmp_path)


def test_a_planted_link_or_pipe_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    lock = tmp_path / ".lock"
    lock.symlink_to(victim)
    with pytest.raises(StorageError):
        RunLock(tmp_path)
    assert victim.read_text() == "mine"
    lock.unlink()
    os.mkfifo(lock)
    began = time.monotonic()
    with pytest.raises(StorageError, match="not a regular file"):
        RunLock(tmp_path)
    assert time.monotonic() - began < 5


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="vanished"):
        RunLock(tmp_path / "nowhere")


def test_where_there_are_no_locks_a_warning_asks_for_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with RunLock(tmp_path):
        assert "this file system has no locks" in caplog.text
