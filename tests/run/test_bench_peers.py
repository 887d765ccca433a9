import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PEERS = Path("scripts/peers").absolute()
ARM = """
import sys, time
sys.path.insert(0, {peers!r})
from arm import Job, Turns
job = Job.from_command_line()
turns = Turns(job, commands={{"check": lambda command: {{"heard": command["word"]}}}})
print("noise on stdout")
turns.answer(parameters=3)
if job.model == "broken":
    raise ValueError("no such model")
while True:
    time.sleep(0.01)
    turns.step_done(job.batch_size)
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(PEERS)
    import main

    yield main
    for name in set(sys.modules) - before:  # names such as `main` and `columns` are anybody's
        if str(PEERS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def start(peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    processes = sys.modules["processes"]
    monkeypatch.setattr(processes, "HERE", tmp_path)
    (tmp_path / "toy_arm.py").write_text(ARM.format(peers=str(PEERS)))
    started = []

    def start(model: str = "toy") -> Any:
        job = peers.Job(model, 32, 10, {}, 8, str(tmp_path), str(tmp_path), bare=True)
        log = tmp_path / "log.txt"
        started.append(processes.Process("toy", sys.executable, "toy", job, {}, log))
        return started[-1]

    yield start
    for process in started:
        process.end()


def arm(title: str, program: str, checked: dict[str, float], **facts: Any) -> Any:
    facts = {"parameters": 100, "flops": 1000, "folder": "", **facts}
    process = SimpleNamespace(ask=lambda **_: {"losses": checked})
    return SimpleNamespace(
        column=SimpleNamespace(title=title, program=program), facts=facts, process=process
    )


def state(pid: int) -> str:
    """Return the letter for what a process does: R runs, S waits, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_arm_trains_the_steps_it_is_told_and_stands_still_in_between(start: Any) -> None:
    process = start()
    assert process.answer() == {"parameters": 3}
    assert process.answer()["images"] == 8  # the first step, which ends the start-up
    turn = process.ask(do="train", steps=5)
    assert turn["images"] == 40
    assert 0.05 <= turn["wall"] < 5
    assert turn["peak_memory"] > 1 << 20
    deadline = time.monotonic() + 5  # the signal takes effect when the process is next scheduled
    while state(process._process.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(process._process.pid) == "T"
    used = process.cpu_seconds()
    time.sleep(0.1)
    assert process.cpu_seconds() == used
    assert process.ask(do="check", word="hello") == {"heard": "hello"}


def test_a_stopped_arm_ends_when_it_is_told_to(start: Any) -> None:
    process = start()
    process.answer()
    process.answer()
    process.hold()
    process.end()
    with pytest.raises(ProcessLookupError):
        os.kill(process._process.pid, 0)


def test_an_arm_that_fails_says_why(start: Any) -> None:
    process = start("broken")
    process.answer()
    with pytest.raises(sys.modules["processes"].ArmFailed, match="ValueError: no such model"):
        process.answer()


def test_equal_work_is_compared(peers: Any) -> None:
    losses = {"fp32": 2.3, "bf16": 2.31}
    assert peers.same_work(arm("vtrain", "vtrain", losses), arm("x", "timm", {}, losses=losses))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"parameters": 101}, "parameters 101 against 100"),
        ({"flops": 1200}, "flops 1,200 against 1,000"),
        (
            {"losses": {"fp32": 2.3003, "bf16": 2.31}},
            "first loss in fp32 2.300300 against 2.300000",
        ),
    ],
)
def test_other_work_is_left_out_with_the_reason(
    peers: Any, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], reason: str
) -> None:
    ours = arm("vtrain", "vtrain", {"fp32": 2.3, "bf16": 2.31})
    theirs = arm("x", "timm", {}, **{"losses": {"fp32": 2.3, "bf16": 2.31}, **facts})
    assert not peers.same_work(ours, theirs)
    assert reason in capsys.readouterr().out


def test_processor_time_means_one_thread(peers: Any) -> None:
    assert peers.parse(["--clock", "cpu", "--threads", "2"]).threads == 1


def test_an_unknown_model_is_refused(peers: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        peers.parse(["--models", "resnet"])
    assert caught.value.code == 2
