"""How torch's threads share the processors: no more than allowed, and considerate of neighbours.

A parallel sum ends when its slowest thread does. Until then the others spin: they ask again and
again, for about 3 ms, which saves microseconds where every thread has a core for itself. Beside
another busy program they burn the very time that the slowest one waits for, and a step takes many
times as long (`scripts/bench sharing`). GNU OpenMP, which torch uses on Linux, spins far less as
soon as it has more threads than cores: a second team, asleep, brings it to that and back at any
moment. How the work is cut into threads stays the same, and so does every bit of the result.
"""

import logging
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import torch

from vtrain.resources import busy_seconds, cpu_count, own_cores, own_seconds

log = logging.getLogger(__name__)

CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITING_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TASKS = Path("/proc/self/task")
LOOK_EVERY = 0.5
"""Seconds between looks at how long our threads wait for a core."""
CROWDED, FREE = 0.1, 0.03
"""Seconds of waiting a second from which on a core is shared, and below which it is ours again."""
BUSY = 0.2
"""Seconds that others must work in each second: without, it is our own workers that we wait for."""
FREE_FOR = 6
"""Looks in a row that must find the cores free before threads spin again."""
PARALLEL = 1 << 17
"""Numbers enough for torch to divide their sum among threads."""
MOST_TEAMS = 16


def use_processors() -> None:
    """Take as many threads as the machine allows, and let a sum's tiniest parts be zero.

    Numbers below the smallest normal one (1.2e-38 in fp32) take many processors far longer; masked
    attention and the moments of weights without gradients are full of them. Threads and processes
    that begin after this call flush them as well. A user's own settings win: see `CHOSEN_BY_USER`
    and `WAITING_CHOSEN_BY_USER`.
    """
    torch.set_flush_denormal(True)
    threads, allowed = torch.get_num_threads(), cpu_count()
    if threads > allowed and not any(name in os.environ for name in CHOSEN_BY_USER):
        torch.set_num_threads(allowed)
        log.info("threads: %d of %d, as no more cores are allowed", allowed, threads)


def heed_neighbours() -> None:
    """Begin to look for other programs on our cores, and wait asleep while there are some."""
    chosen = any(name in os.environ for name in WAITING_CHOSEN_BY_USER)
    if torch.get_num_threads() > 1 and sys.platform == "linux" and not chosen:
        _watch.start()


@dataclass
class Watch:
    """Looks twice a second how long our threads wait for a core, and crowds OpenMP if they do."""

    thread: Thread | None = None
    teams: list["SleepingTeam"] = field(default_factory=list)
    free: int = 0
    """Looks in a row that found the cores free."""
    said: bool = False

    def start(self) -> None:
        """Look from now on, as long as the process lives; once is enough."""
        alive = self.thread is not None and self.thread.is_alive()  # not in a forked process
        if not alive:
            self.thread = Thread(target=self._look, name="neighbours", daemon=True)
            self.thread.start()

    def _look(self) -> None:
        now = Look.now()
        while True:
            time.sleep(LOOK_EVERY)
            before, now = now, Look.now()
            self.see(*now.since(before))

    def see(self, waiting: float, others: float) -> None:
        """Take note of how long our threads waited for a core, and how long others worked.

        Both are seconds in each second, over all threads and all processes.
        """
        self.free = self.free + 1 if waiting < FREE else 0
        if not self.teams and waiting > CROWDED and others > BUSY:
            self.teams = [SleepingTeam() for _ in range(teams_to_crowd())]
            if self.teams and not self.said:
                self.said = True
                log.info("other programs use these cores too: training is slower beside them")
        elif self.teams and self.free >= FREE_FOR:
            while self.teams:
                self.teams.pop().disband()


@dataclass(frozen=True)
class Look:
    """What the system has counted so far, in seconds."""

    at: float
    waited: dict[str, float]
    """By our threads, each by its number."""
    others: float
    """Worked by all processes but ours."""

    @classmethod
    def now(cls) -> "Look":
        return cls(time.monotonic(), seconds_waited(), busy_seconds() - own_seconds())

    def since(self, before: "Look") -> tuple[float, float]:
        """Return the waiting of our threads and the work of others, in each second."""
        seconds = self.at - before.at
        waited = sum(s - before.waited.get(thread, s) for thread, s in self.waited.items())
        return waited / seconds, (self.others - before.others) / seconds


class SleepingTeam:
    """A team of OpenMP's threads that have done one sum and sleep until it is disbanded."""

    def __init__(self) -> None:
        self._formed, self._over = Event(), Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._formed.wait()

    def _run(self) -> None:
        torch.zeros(PARALLEL).add_(1)  # in a thread of its own: OpenMP gives each its own team
        self._formed.set()
        self._over.wait()

    def disband(self) -> None:
        """Let its threads end."""
        self._over.set()
        self._thread.join()


def teams_to_crowd() -> int:
    """Return how many more teams make OpenMP's threads more than its cores.

    0: they already are, or it would take too many.
    """
    threads = torch.get_num_threads()
    teams = max(0, (own_cores() - threads) // (threads - 1) + 1)
    return teams if teams <= MOST_TEAMS else 0


def seconds_waited() -> dict[str, float]:
    """Return for each of our threads the seconds that it was ready to run and had no core.

    Source: run_delay of the kernel's Documentation/scheduler/sched-stats.rst. Empty where the
    kernel does not count it.
    """
    waited = {}
    for task in TASKS.iterdir() if TASKS.exists() else ():
        try:
            waited[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            continue  # it has just ended, or nothing is counted
    return waited


_watch = Watch()
