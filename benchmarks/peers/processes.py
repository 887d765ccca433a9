"""The controller's side of taking turns: start an arm, let it train, hold it still, end it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.peers.arm import Job


class ArmFailed(Exception):  # noqa: N818 - it is an outcome: the column is left out
    """An arm's process ended; the message is the last thing it said."""


class Process:
    """One arm: its own process group, stopped by a signal whenever it is not its turn.

    A stopped group computes nothing: its loader's workers cannot work ahead in others' turns.
    """

    def __init__(
        self, title: str, command: Sequence[str], job: Job, env: Mapping[str, str], log: Path
    ) -> None:
        self.title, self.batch_size, self.log = title, job.batch_size, log
        self.started = time.perf_counter()
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [*command, job.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **env},
                text=True,
                start_new_session=True,
            )

    def answer(self) -> dict[str, Any]:
        """Wait for what the arm says next.

        Raises:
            ArmFailed: It ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise ArmFailed(lines[-1][:150] if lines else "it ended without a word")
        content: dict[str, Any] = json.loads(line)
        return content

    def train(self, steps: int) -> dict[str, Any]:
        """Let the arm train for a turn, and return what it says of it."""
        assert self._process.stdin is not None
        # First awake, then told: a stopped process would not read, and a full pipe would block us.
        self._signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self._process.stdin.flush()
        content = self.answer()
        self.hold()
        return content

    def hold(self) -> None:
        """Stop the arm and its workers until its next turn."""
        self._signal(signal.SIGSTOP)

    def end(self) -> None:
        """End the arm and its workers."""
        # SIGKILL ends stopped processes, too.
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def cpu_seconds(self) -> float:
        """Return the processor time of the arm and its workers so far."""
        ticks = sum(sum(map(int, fields[11:13])) for fields in self._members().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def workers_memory(self) -> int:
        """Return the bytes that the workers hold for themselves alone."""
        total = 0
        for pid in self._members():
            if pid == self._process.pid:
                continue
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:  # it has just ended
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
        return 1024 * total

    def _members(self) -> dict[int, list[str]]:
        """Return what /proc says of each process of the group, from the state on."""
        members = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[2]) == self._process.pid:  # its process group
                members[int(path.parent.name)] = fields
        return members

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
