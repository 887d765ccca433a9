"""Runs the command line as its user does: in this process, or in a fork of it.

A fork has torch and vtrain loaded: the same code from `cli.main` on, in a process of its own that
can be killed, in a second instead of five.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from vtrain import cli
from vtrain.interrupt import STOP_SIGNALS


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code as a shell shows it, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that report an error."""
        text = self.err.replace("\0", "")  # torch's handler of a worker's SIGSEGV prints one
        return [line for line in text.splitlines() if line.startswith("vtrain: ")]


Vtrain: TypeAlias = Callable[..., Result]
"""The fixture `vtrain`: runs a command with these arguments in this process."""


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> Result:
    """Run a command in this process and leave its signal handlers as they were."""
    monkeypatch.setattr(sys, "argv", ["vtrain", *map(str, arguments)])
    capsys.readouterr()  # what came before is not the command's
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    captured = capsys.readouterr()
    return Result(int(ended.value.code or 0), captured.out, captured.err)


def interrupt(run_dir: str | Path) -> None:
    """Make a run that has ended look like one that can be resumed."""
    Path(run_dir, "status.json").write_text('{"state": "failed"}')


# The first backward pass settles whether autograd has threads, which no fork can train beside. In a
# fresh process it has none; once a model has been exported it would have.
torch.ones((), requires_grad=True).backward()


def fork() -> int:
    """Fork as `os.fork` does, without its warning: the copy never waits for another thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Command:
    """A running `vtrain ...`; `prepare` is called in the new process before it."""

    def __init__(
        self, folder: Path, *arguments: object, prepare: Callable[[], object] = lambda: None
    ) -> None:
        self.output = [folder / f".{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        self.code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = fork()
        if self.pid == 0:
            self._run(folder, [str(argument) for argument in arguments], prepare)

    def _run(self, folder: Path, arguments: list[str], prepare: Callable[[], object]) -> None:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            for number, path in enumerate(self.output, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            warnings.simplefilter("default")
            torch.set_num_threads(1)
            logging.disable(logging.NOTSET)
            prepare()
            sys.argv = ["vtrain", *arguments]
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def alive(self) -> bool:
        """Whether it still runs; it is waited for if it does not."""
        if self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                self.code = 128 - code if code < 0 else code
        return self.code is None

    def send(self, number: int) -> None:
        """Send a signal to it alone."""
        if self.alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def until(self, reached: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until something is so, or the command has ended."""
        deadline = time.monotonic() + timeout
        while not reached() and self.alive():
            assert time.monotonic() < deadline, "what was waited for did not come"
            time.sleep(0.002)

    def wait(self, timeout: float = 120) -> Result:
        """Wait for its end."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"no end after {timeout} s: {self.output[1].read_text()}")
            time.sleep(0.002)
        out, err = (path.read_text() if path.exists() else "" for path in self.output)
        assert self.code is not None
        return Result(self.code, out, err)


def run(folder: Path, *arguments: object, **options: Any) -> Result:
    """Run a command in `folder` to its end."""
    command = Command(folder, *arguments, **options)
    try:
        return command.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


def places(ranks: int) -> list[dict[str, str]]:
    """Return the environment of each of several processes that train together, as torchrun would.

    A fork takes it over in `prepare`.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
