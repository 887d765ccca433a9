import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vtrain import threads
from vtrain.threads import BUSY, CROWDED, FREE, FREE_FOR, Watch, seconds_waited, teams_to_crowd

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP, and Linux's counters")


class Team:
    """Stands for a team of OpenMP's threads."""

    formed = 0

    def __init__(self) -> None:
        Team.formed += 1

    def disband(self) -> None:
        Team.formed -= 1


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(threads, "SleepingTeam", Team)
    monkeypatch.setattr(threads, "teams_to_crowd", lambda: 2)
    Team.formed = 0
    return Watch()


def test_threads_sleep_beside_neighbours_and_spin_when_these_have_been_gone_for_a_while(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "vtrain")
    watch.see(CROWDED, 1.0)
    watch.see(1.0, BUSY)  # we wait for our own workers
    assert Team.formed == 0
    watch.see(2 * CROWDED, 1.0)
    assert Team.formed == 2
    watch.see(1.0, 1.0)
    assert Team.formed == 2
    for _ in range(FREE_FOR - 1):
        watch.see(0.0, 0.0)
    watch.see(2 * FREE, 0.0)  # not gone after all
    for _ in range(FREE_FOR - 1):
        watch.see(0.0, 0.0)
    assert Team.formed == 2
    watch.see(0.0, 0.0)
    assert Team.formed == 0
    watch.see(2 * CROWDED, 1.0)
    assert Team.formed == 2
    assert caplog.text.count("other programs use these cores too") == 1


@pytest.mark.parametrize(
    ("cores", "number", "teams"),
    [(2, 2, 1), (8, 8, 1), (4, 2, 3), (64, 8, 9), (3, 2, 2), (64, 2, 0), (1, 2, 0)],
)
def test_enough_teams_are_formed_to_make_more_threads_than_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, number: int, teams: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    monkeypatch.setattr(threads, "own_cores", lambda: cores)
    assert teams_to_crowd() == teams
    if teams:
        assert number + teams * (number - 1) > cores
        assert number + (teams - 1) * (number - 1) <= max(cores, number)


def run(code: str, **variables: str) -> list[str]:
    """Return the words that a program prints which has two threads unless `variables` say else."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_"))}
    env |= {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path.cwd())} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# After each sum the second thread spins until the next one comes, or gives up and sleeps.
SPIN = """
import hashlib, time, torch
from vtrain.threads import SleepingTeam
x = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0))
def work():
    start, total = time.process_time(), []
    for _ in range(60):
        total.append(torch.tanh(x).sum())
        time.sleep(0.005)
    total = hashlib.sha256(torch.stack(total).numpy().tobytes()).hexdigest()
    return time.process_time() - start, total
work()
spinning, before = work()
team = SleepingTeam()
asleep, beside = work()
team.disband()
again, after = work()
print(spinning, asleep, again, before == beside == after)
"""


@LINUX
@pytest.mark.slow
def test_beside_a_sleeping_team_threads_do_not_spin_and_compute_the_same_bits() -> None:
    spinning, asleep, again, same = run(SPIN)
    assert same == "True"
    assert float(asleep) < 0.7 * min(float(spinning), float(again))


WAITED = """
import os, subprocess, sys, time
from vtrain.threads import seconds_waited
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
def work():
    before, until = sum(seconds_waited().values()), time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    return sum(seconds_waited().values()) - before
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print(work())
other.kill()
"""


@LINUX
@pytest.mark.slow
def test_waiting_for_a_core_is_counted() -> None:
    assert seconds_waited()
    (waited,) = run(WAITED)
    assert 0.1 < float(waited) < 0.6


LOOK = """
import subprocess, sys, time
from multiprocessing import get_context
from vtrain.threads import Look
def work(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
busy = "import time; end = time.time() + 1.2\\nwhile time.time() < end: pass"
def begin(whose):
    if whose == "ours":
        get_context("fork").Process(target=work, args=(1.2,)).start()
    else:  # the shell ends, and the process is nobody's child
        subprocess.run(["sh", "-c", '"$0" -c "$1" &', sys.executable, busy], check=True)
for whose in ("ours", "theirs"):
    begin(whose)
    time.sleep(0.2)
    before = Look.now()
    time.sleep(0.8)
    print(Look.now().since(before)[1])
    time.sleep(0.5)
"""


@LINUX
@pytest.mark.slow
def test_the_work_of_our_own_processes_is_told_from_that_of_others() -> None:
    """Beside whatever else runs here, one is a busy process more than the other."""
    ours, theirs = map(float, run(LOOK))
    assert theirs > ours + 0.2


# The smallest normal number of fp32 is 1.2e-38. Each thread has a half of these.
TINY = """
import torch
from vtrain.threads import use_processors
if FLUSHED:
    use_processors()
x = torch.full((1 << 18,), 1e-30, requires_grad=True)
y = x * 1e-10
y.backward(torch.full_like(y, 1e-30))
print(int((y != 0).sum()), int((x.grad != 0).sum()))
"""


@LINUX
@pytest.mark.slow
def test_all_threads_flush_subnormal_numbers_forward_and_backward() -> None:
    assert run(TINY.replace("FLUSHED", "False")) == [str(1 << 18)] * 2
    assert run(TINY.replace("FLUSHED", "True")) == ["0", "0"]
