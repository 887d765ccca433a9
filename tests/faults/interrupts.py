"""Experiments with Ctrl-C at random moments, from the first instant of a real process on.

Unlike the forks of `tests.harness`, such a process imports all that a command needs.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.base_configs import FAULT_RUN
from tests.faults.running import Trials, exact_stop
from vtrain.files import atomic
from vtrain.files.runs import RunFolder

ENTRIES = (("-m", "vtrain"), ("-c", "from vtrain.cli import main; main()"))
"""`python -m vtrain`, and what the script `vtrain` does."""
LOST = 30.0
"""Seconds after which a Ctrl-C was without effect."""
OURS = "vtrain: stopped"


@dataclass
class Started:
    """A run in a process group of its own, as a terminal would signal it."""

    process: subprocess.Popen[str]
    run_dir: Path
    began: float

    def interrupt(self, numbers: tuple[int, ...]) -> None:
        """Send signals as a terminal does: to the process and to its workers."""
        for number in numbers:
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)

    def end(self) -> tuple[int | None, str]:
        """Return the exit code, None for none within `LOST` seconds, and what was printed."""
        try:
            return self.process.wait(LOST), self._printed()
        except subprocess.TimeoutExpired:
            return None, self._printed()
        finally:
            with suppress(ProcessLookupError):  # its workers, should they live
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _printed(self) -> str:
        return (self.run_dir.parent / f"{self.run_dir.name}.err").read_text()


def start(folder: Path, name: str, draw: random.Random, epochs: int) -> Started:
    """Start a run that takes long, by either entry, with workers or without."""
    config = folder / "long.yaml"
    if not config.exists():
        config.write_text(FAULT_RUN)
    workers = draw.choice((("data.cache=ram",), ("data.cache=none", "data.num_workers=2")))
    run_dir = folder / name
    more = ("--run-dir", str(run_dir), f"train.epochs={epochs}", *workers)
    with (folder / f"{name}.err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, *draw.choice(ENTRIES), "fit", str(config), *more],
            stdout=err,
            stderr=err,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    return Started(process, run_dir, time.monotonic())


def seconds_to_train(folder: Path, draw: random.Random) -> float:
    """Return how long it takes here, now, from nothing to the first steps."""
    started = start(folder, "measured", draw, 10_000)
    try:
        while not (started.run_dir / "metrics.jsonl").exists():
            assert started.process.poll() is None, started.end()
            time.sleep(0.01)
        return time.monotonic() - started.began
    finally:
        started.interrupt((signal.SIGKILL,))
        started.end()
        shutil.rmtree(started.run_dir)


def wrong(started: Started, code: int | None, printed: str, number: int) -> str | None:
    """Say what is wrong about how an interrupted run ended."""
    run = RunFolder(started.run_dir)
    lines = [line for line in printed.splitlines() if line.startswith("vtrain: ")]
    if code is None:
        return f"the signal was lost: {printed[-300:]}"
    if code == 0 and run.is_finished:  # it came when all was done
        return None
    if code != 128 + number or len(lines) != 1 or not lines[0].startswith(OURS):
        return f"code {code}: {printed[-600:]}"
    if "Traceback" in printed:
        return printed
    return half_made(run, number, "at once" in lines[0]) if run.path.exists() else None


def half_made(run: RunFolder, number: int, at_once: bool) -> str | None:
    """Say what an interrupted run left behind that is not whole."""
    if not run.is_started or list(run.path.rglob(f"{atomic.PREFIX}*")):
        return f"left behind: {sorted(run.path.iterdir())}"
    status = run.read_status()
    if (status.get("state"), status.get("code")) != ("stopped", 128 + number):
        return f"status.json says {status}"
    return None if at_once else exact_stop(run.path, number)


OUTCOMES: Counter[str] = Counter()
"""How the runs of this process ended."""


def early(folder: Path, draw: random.Random, numbers: tuple[int, ...] = (signal.SIGINT,)) -> Trials:
    """Press Ctrl-C at a random moment between the first instant and the first steps."""
    folder.mkdir(parents=True, exist_ok=True)
    window = max(5.0, seconds_to_train(folder, draw))
    yield from _interrupted(folder, draw, numbers, 0.0, window)


def later(folder: Path, draw: random.Random, numbers: tuple[int, ...] = (signal.SIGINT,)) -> Trials:
    """Press Ctrl-C at a random moment of training: in a step, an evaluation or a save."""
    folder.mkdir(parents=True, exist_ok=True)
    window = max(5.0, seconds_to_train(folder, draw))
    yield from _interrupted(folder, draw, numbers, window, window + 3.0)


def _interrupted(
    folder: Path, draw: random.Random, numbers: tuple[int, ...], first: float, last: float
) -> Iterator[str | None]:
    trial = 0
    while True:
        trial += 1
        started = start(folder, f"run_{trial}", draw, 10_000)
        moment = draw.uniform(first, last)
        time.sleep(max(0.0, started.began + moment - time.monotonic()))
        started.interrupt(numbers)
        code, printed = started.end()
        phase = "training" if RunFolder(started.run_dir).is_started else "start-up"
        OUTCOMES[f"{phase}: exit {code}"] += 1
        found = wrong(started, code, printed, numbers[0])
        yield found and f"after {moment:.3f} s of {first:.1f} to {last:.1f}: {found}"
        shutil.rmtree(started.run_dir, ignore_errors=True)
