"""Runs the command line as its user does, but without waiting for torch to start each time.

A command runs in a fork of this process, which has torch and vtrain loaded: the same code from
`cli.main` on, in a process of its own that can be killed, in a second instead of five.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import vtrain.run.check  # all that the commands import is loaded before the forks
import vtrain.run.evaluate
import vtrain.run.fit
import vtrain.run.predict
import vtrain.run.text.tables  # noqa: F401
from tests.faults.forks import fork
from vtrain import cli
from vtrain.files.container import load_checkpoint
from vtrain.files.store import order
from vtrain.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES

for _registry in (LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES):
    _registry.names()  # loads its modules

TINY = """\
seed: 3
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 2, drop_rate: 0.1}
data: {name: fake, image_size: 8, num_classes: 4, num_images: 45, size: 8}
augment: {mixup: 0.2, cutmix: 0.2}
optimizer: {name: adamw, lr: 1e-2}
schedule: {name: cosine, warmup_epochs: 1}
train:
  {epochs: 3, batch_size: 8, ema_decay: 0.9, device: cpu, precision: fp32,
   early_stopping: {metric: val/loss, mode: min, patience: 100}}
checkpoint: {every_steps: 2}
logging: {every_steps: 3, tensorboard: false}
"""
"""18 steps, metrics of every third and a checkpoint after every second."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code as a shell shows it, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that report an error."""
        text = self.err.replace("\0", "")  # torch's handler of a worker's SIGSEGV prints one
        return [line for line in text.splitlines() if line.startswith("vtrain: ")]


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

    def wait(self, timeout: float = 120) -> Ended:
        """Wait for its end."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"no end after {timeout} s: {self.output[1].read_text()}")
            time.sleep(0.002)
        out, err = (path.read_text() if path.exists() else "" for path in self.output)
        assert self.code is not None
        return Ended(self.code, out, err)


def run(folder: Path, *arguments: object, **options: Any) -> Ended:
    """Run a command in `folder` to its end."""
    command = Command(folder, *arguments, **options)
    try:
        return command.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)


def tiny(folder: Path, text: str = TINY) -> Path:
    """Write the config of a run that takes a second."""
    path = folder / "tiny.yaml"
    if not path.exists():  # others may be reading it
        path.write_text(text)
    return path


def newest_step(run_dir: Path) -> int:
    """Return the step of the newest published checkpoint, -1 without one, by the names alone."""
    return max((order(path.name)[0] for path in run_dir.glob("step-*.pt")), default=-1)


def result(run_dir: Path) -> dict[str, Any]:
    """Return all that two equal runs must share: the state, the metrics of every step, the best."""
    last, best = (load_checkpoint(run_dir / name) for name in ("last.pt", "best.pt"))
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("train/images_per_second", None)
    return {
        "rows": rows,
        "best step": best["state"]["step"],
        **{f"state.{name}": part for name, part in last["state"].items()},
        **{name: last[name] for name in last if name not in ("state", "config", "is_best")},
    }


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Name the places where two results differ, bit for bit."""
    if type(a) is not type(b):
        yield f"{where}: {type(a).__name__} or {type(b).__name__}"
    elif isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a, b):
            yield where
    elif isinstance(a, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b:
                yield from differences(a[key], b[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: in one only"
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{where}: {len(a)} or {len(b)}"
        for number, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from differences(x, y, f"{where}[{number}]")
    elif a != b:
        yield f"{where}: {a} or {b}"
