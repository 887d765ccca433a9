# ruff: noqa: T201 - it prints its table
"""Hurts vtrain for as long as it is told to, and prints what held: a claim, n, and the failures.

Run it by `scripts/torture --minutes 30`. The seed makes the trials; only where a kill lands within
a moment is the machine's choice. Exit code 1 if anything did not hold.
"""

import argparse
import logging
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fuzz
import running
import saving
import strace
import torch

Trials = Iterator[str | None]


@dataclass
class Claim:
    """Something that is promised, the trials that could refute it, and its share of the time.

    Zero failures in n trials mean a rate of failure below 3 / n, with 95 % confidence.
    """

    promise: str
    trials: Callable[[Path, random.Random], Trials]
    share: float = 1.0
    most: int = 1_000_000
    n: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def try_for(self, seconds: float, folder: Path, seed: int) -> None:
        """Make trials until the time is over, but at least one."""
        draw = random.Random(f"{seed} {self.promise}")
        began = time.monotonic()
        try:
            for found in self.trials(folder, draw):
                self.n += 1
                if found:
                    self.failures.append(found)
                if self.n >= self.most or time.monotonic() - began > seconds:
                    break
        except Exception as error:
            self.failures.append(f"the experiment itself failed: {type(error).__name__}: {error}")
        self.seconds = time.monotonic() - began


def forgetful(folder: Path, draw: random.Random) -> Trials:
    """Forget each item of the state in turn: the harness must notice."""
    folder.mkdir(parents=True, exist_ok=True)
    state = running.reference(folder)
    names = {name.removeprefix("state.") for name in state if name.startswith("state.")}
    for name in draw.sample(sorted(names - running.FOR_FP16), len(names - running.FOR_FP16)):
        yield None if running.is_noticed(folder, name, state) else f"{name} was forgotten unnoticed"


def stops(number: int, ranks: int) -> Callable[[Path, random.Random], Trials]:
    return lambda folder, draw: running.stops(folder, draw, number, ranks)


def claims() -> list[Claim]:
    """Return everything that is tried, in the order of the table."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    errors = ("ENOSPC", "EDQUOT", "EIO", "EACCES", "EROFS")
    return [
        Claim("SIGKILL at a random moment: the same bits in the end", running.random_kills, 8),
        Claim("forgetting an item of the state is noticed", forgetful, 2),
        Claim(
            "SIGKILL at every system call of a save: nothing lost",
            lambda folder, _: saving.killed_at_each_call(folder),
        ),
        Claim(
            "an error from every system call of a save: nothing lost",
            lambda folder, _: saving.failed_at_each_call(folder, errors),
            2,
        ),
        Claim(
            "SIGTERM at every system call of a save: saved",
            lambda folder, _: saving.interrupted_at_each_call(folder),
        ),
        Claim("no space within a save: earlier checkpoints intact", saving.without_space, 0.5, 500),
        Claim("no space within a run: exit 5, checkpoints intact", running.runs_without_space),
        Claim(
            "a flipped bit is found by the manifest",
            lambda folder, draw: saving.flipped_bits(folder, draw, with_manifest=True),
            0.5,
            3000,
        ),
        Claim(
            "a flipped bit that matters is found without a manifest",
            lambda folder, draw: saving.flipped_bits(folder, draw, with_manifest=False),
            0.5,
            3000,
        ),
        Claim("a truncation is found, the one before is used", saving.truncations, 0.7, 1500),
        *(
            Claim(f"{number.name} to {ranks}: the step is saved, exit 128+n", stops(number, ranks))
            for number in signals
            for ranks in (1, 2)
        ),
        Claim("a storm of signals is one stop", running.storms, 0.7),
        Claim(
            "two starters in one folder: one runs", lambda folder, _: running.two_starters(folder)
        ),
        Claim(
            "fifty starters in one folder: one runs",
            lambda folder, _: running.two_starters(folder, 50),
            0.7,
        ),
        Claim("a damaged config: ours to report, in lines", fuzz.configs, 6, 20_000),
        Claim("a damaged config by the command line: exit 2", fuzz.checked_configs),
        *(
            Claim(
                f"a damaged {name} image: decoded or refused",
                lambda _, draw, name=name: fuzz.images(draw, name),  # type: ignore[misc]
                0.3,
                20_000,
            )
            for name in fuzz.FORMATS
        ),
        Claim("a damaged checkpoint: refused in one line", fuzz.archives, 0.5, 20_000),
        Claim("a damaged pickle program: refused, no crash", fuzz.programs, 0.5, 20_000),
    ]


def main() -> int:
    """Try every claim and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="for all claims together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="claims that contain this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    chosen = [claim for claim in claims() if arguments.only in claim.promise]
    if not strace.available():
        print("strace cannot trace here: the claims about system calls are left out")
        chosen = [claim for claim in chosen if "system call" not in claim.promise]
    second = arguments.minutes * 60 / sum(claim.share for claim in chosen)
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {torch.__version__=!s}")
    print(f"{'claim':62} {'n':>6} {'failed':>6} {'s':>6}")
    left = 0.0  # what a claim does not use, because it is through, the others get
    for number, claim in enumerate(chosen):
        with tempfile.TemporaryDirectory(prefix="vtrain-torture-") as folder:
            seconds = second * claim.share + left / (len(chosen) - number)
            claim.try_for(seconds, Path(folder) / "x", arguments.seed)
            left = max(0.0, left + second * claim.share - claim.seconds)
        row = f"{claim.promise:62} {claim.n:6} {len(claim.failures):6} {claim.seconds:6.0f}"
        print(row, flush=True)
        for failure in claim.failures[:3]:
            print(f"    {failure[:1000]}", flush=True)
    failed = sum(len(claim.failures) for claim in chosen)
    print(f"{sum(claim.n for claim in chosen)} trials, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
