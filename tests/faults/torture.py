# ruff: noqa: T201 - it prints its table
"""Hurts vtrain and prints what held: a claim, how often it was tried, and the failures.

Run it by `scripts/torture --minutes 30`. Every claim is tried as often as its target says, however
long that takes; what is left of the minutes goes on until they are over. Fewer minutes than 30 have
smaller targets. The seed makes the trials; only where a kill lands within a moment is the machine's
choice. Exit code 1 if anything did not hold.
"""

import argparse
import json
import logging
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.faults import fuzz, interrupts, running, saving, strace, values
from tests.harness import fork

Trials = Iterator[str | None]
Experiment = Callable[[Path, random.Random], Trials]

NIGHTLY = 30
"""Minutes for which the targets below are meant."""
FEWEST_KILLS = 15


@dataclass
class Claim:
    """Something that is promised, the trials that could refute it, and how many are wanted.

    Zero failures in n trials mean a rate of failure below 3 / n, with 95 % confidence. `target` is
    None where the trials come to an end by themselves. What is left of the time is shared out by
    `share`.
    """

    promise: str
    trials: Experiment
    target: int | None = None
    share: float = 1.0
    n: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def attempt(self, folder: Path, seed: str, most: float, seconds: float) -> None:
        """Make `most` trials, or as many as `seconds` allow, but at least one."""
        draw = random.Random(f"{seed} {self.promise}")
        began = time.monotonic()
        try:
            for found in self.trials(folder, draw):
                self.n += 1
                if found:
                    self.failures.append(found)
                if self.n >= most or time.monotonic() - began > seconds:
                    break
        except Exception as error:
            self.failures.append(f"the experiment itself failed: {type(error).__name__}: {error}")
        self.seconds = time.monotonic() - began


@dataclass(frozen=True)
class Attempt:
    """What a process of its own does for a claim."""

    claim: Claim
    seed: str
    most: float = math.inf
    seconds: float = math.inf

    def start(self, folder: Path) -> int:
        """Begin, and return the process; its result will be in `folder`."""
        worker = fork()
        if worker == 0:
            code = 1
            try:
                self.claim.n, self.claim.failures = 0, []
                self.claim.attempt(folder / "x", self.seed, self.most, self.seconds)
                found = [self.claim.n, self.claim.seconds, self.claim.failures]
                (folder / "result").write_text(json.dumps(found))
                code = 0
            finally:
                os._exit(code)
        return worker

    def collect(self, folder: Path, code: int) -> None:
        """Add the result to the claim's."""
        if code != 0:
            self.claim.failures.append(f"the experiment ended with {code}")
            return
        n, seconds, failures = json.loads((folder / "result").read_text())
        self.claim.n += n
        self.claim.seconds += seconds
        self.claim.failures += failures


def carry_out(attempts: Iterable[Attempt], jobs: int) -> None:
    """Make the attempts, `jobs` of them at the same time."""
    waiting = list(attempts)
    running_now: dict[int, tuple[Attempt, tempfile.TemporaryDirectory[str]]] = {}
    while waiting or running_now:
        while waiting and len(running_now) < jobs:
            attempt = waiting.pop(0)
            place = tempfile.TemporaryDirectory(
                prefix="vtrain-torture-", ignore_cleanup_errors=True
            )
            running_now[attempt.start(Path(place.name))] = attempt, place
        ended, status = os.wait()
        attempt, place = running_now.pop(ended)
        attempt.collect(Path(place.name), os.waitstatus_to_exitcode(status))
        place.cleanup()
        print(row(attempt.claim), file=sys.stderr, flush=True)


def row(claim: Claim) -> str:
    """Return a claim's line of the table."""
    target = "all" if claim.target is None else claim.target
    counts = f"{claim.n:7} {target:>7} {len(claim.failures):6} {claim.seconds:6.0f}"
    return f"{claim.promise:62} {counts}"


def claims() -> list[Claim]:
    """Return everything that is tried, what takes longest first."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    errors = ("ENOSPC", "EDQUOT", "EIO", "EACCES", "EROFS")

    def stops(number: int, ranks: int) -> Experiment:
        return lambda folder, draw: running.stops(folder, draw, number, ranks)

    def starters(count: int) -> Experiment:
        return lambda folder, _: running.two_starters(folder, count)

    def flips(*, with_manifest: bool) -> Experiment:
        return lambda folder, draw: saving.flipped_bits(folder, draw, with_manifest=with_manifest)

    def pictures(name: str) -> Experiment:
        return lambda _, draw: fuzz.images(draw, name)

    return [
        *(
            Claim(
                f"{number.name} to {ranks}: the step is saved, exit 128+n", stops(number, ranks), 50
            )
            for ranks in (2, 1)
            for number in signals
        ),
        Claim("a damaged config: ours to report, in lines", fuzz.configs, 10_000),
        Claim("two starters in one folder: one runs", starters(2), 100),
        Claim("fifty starters in one folder: one runs", starters(50), 20),
        Claim("SIGKILL at a random moment: the same bits in the end", running.random_kills, 200, 6),
        Claim("a damaged config by the command line: exit 2", fuzz.checked_configs, 300),
        Claim("no space within a run: exit 5, checkpoints intact", running.runs_without_space, 50),
        Claim("Ctrl-C while it starts: exit 130, nothing half-made", interrupts.early, 200),
        Claim("Ctrl-C while it trains: exit 130, the step is saved", interrupts.later, 100),
        Claim(
            "a number nobody means, in any key: no bug",
            lambda _, draw: values.checks(draw),
            2000,
        ),
        Claim("a storm of signals is one stop", running.storms, 20),
        Claim("forgetting an item of the state is noticed", running.forgetful),
        Claim(
            "SIGKILL at every system call of a save: nothing lost",
            lambda folder, _: saving.killed_at_each_call(folder),
        ),
        Claim(
            "an error from every system call of a save: nothing lost",
            lambda folder, _: saving.failed_at_each_call(folder, errors),
        ),
        Claim(
            "SIGTERM at every system call of a save: saved",
            lambda folder, _: saving.interrupted_at_each_call(folder),
        ),
        Claim("no space within a save: earlier checkpoints intact", saving.without_space, 50),
        Claim("a flipped bit is found by the manifest", flips(with_manifest=True), 1000),
        Claim(
            "a flipped bit that matters is found without a manifest",
            flips(with_manifest=False),
            1000,
        ),
        Claim("a truncation is found, the one before is used", saving.truncations, 500),
        Claim(
            "a hostile checkpoint: refused, nothing run, little memory",
            lambda folder, _: fuzz.hostile(folder),
        ),
        *(
            Claim(f"a damaged {name} image: decoded or refused", pictures(name), 5000)
            for name in fuzz.FORMATS
        ),
        Claim("a damaged checkpoint: refused in one line", fuzz.archives, 2000),
        Claim("a damaged pickle program: refused, no crash", fuzz.programs, 2000),
    ]


def main() -> int:
    """Try every claim and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="for all claims together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="claims that contain this text")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="claims tried at once"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    chosen = [claim for claim in claims() if arguments.only in claim.promise]
    if not strace.available():
        print("strace cannot trace here: the claims about system calls are left out")
        chosen = [claim for claim in chosen if "system call" not in claim.promise]
    for claim in chosen:
        if claim.target is not None:
            least = FEWEST_KILLS if claim.trials is running.random_kills else 1
            part = math.ceil(claim.target * min(1, arguments.minutes / NIGHTLY))
            claim.target = max(least, part)
    began, seed = time.monotonic(), str(arguments.seed)
    carry_out(
        (Attempt(claim, seed, most=claim.target or math.inf) for claim in chosen), arguments.jobs
    )
    left = began + 60 * arguments.minutes - time.monotonic()
    endless = [claim for claim in chosen if claim.target is not None]
    if left > 0 and endless:
        second = left * arguments.jobs / sum(claim.share for claim in endless)
        more = [Attempt(claim, f"{seed} more", seconds=second * claim.share) for claim in endless]
        carry_out(more, arguments.jobs)
    minutes = (time.monotonic() - began) / 60
    print(
        f"seed {seed}, {minutes:.1f} minutes, {arguments.jobs} at once, torch {torch.__version__}"
    )
    print(f"{'claim':62} {'n':>7} {'target':>7} {'failed':>6} {'s':>6}")
    for claim in chosen:
        print(row(claim))
        for failure in claim.failures[:3]:
            print(f"    {failure[:1000]}")
    failed = sum(len(claim.failures) for claim in chosen)
    print(f"{sum(claim.n for claim in chosen)} trials, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
