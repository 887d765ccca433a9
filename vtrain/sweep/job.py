"""The runs of one trial: `vtrain fit` in a process of its own, begun again where it was killed."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vtrain.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    DivergedError,
    StoppedBySignal,
    StorageError,
    VtrainError,
    WorkerError,
    counted,
)
from vtrain.files.runs import RunFolder
from vtrain.interrupt import ending_with_parent

HOPELESS = 3
"""Deaths of a run in a row, without a checkpoint in between, after which it will not succeed."""
OF_THE_TRIAL = {
    ConfigError.exit_code: "not a valid config",
    DeviceError.exit_code: "out of memory",
    DivergedError.exit_code: "diverged",
}
"""Exit codes that say something of a trial's values, and what."""
OF_ALL_TRIALS = (
    1,
    ConfigError.exit_code,
    DataError.exit_code,
    CheckpointError.exit_code,
    StorageError.exit_code,
)
"""Exit codes that the next trial would end with as well, or that a person has to look at."""


@dataclass(frozen=True)
class Fit:
    """One run: its folder, and the command that begins it or goes on with it."""

    folder: Path
    command: Sequence[str]

    @property
    def is_finished(self) -> bool:
        """Whether it has made all its steps, and says what came out."""
        return RunFolder(self.folder).is_finished and bool(self.summary)

    @property
    def summary(self) -> dict[str, Any]:
        """What the run says of its end; empty before."""
        return RunFolder(self.folder).read_summary()


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    summaries: Sequence[Mapping[str, Any]] = ()
    """Of all its runs, where they are finished."""
    failed: str = ""
    """Why it failed, where its own values are to blame."""
    pruned: bool = False
    code: int = 0
    """The exit code that ends the whole sweep, where that is no trial's fault."""
    said: str = ""
    """The last line of an error."""

    def error(self, output: str) -> VtrainError:
        """Return it as the error of the whole sweep, with the same exit code."""
        kinds = {k.exit_code: k for k in VtrainError.__subclasses__() if k is not StoppedBySignal}
        kind = kinds.get(self.code, WorkerError)
        said = self.said or self.failed or f"a run ended with exit code {self.code}"
        what = f"a run of the sweep cannot be made: {said}"
        return kind(what, output, "it has all that was printed")


Watch = Callable[[list[dict[str, Any]]], bool]
"""Is told the rows of the first run's metrics, and says whether the job is to stop."""


@dataclass
class Job:
    """Runs that follow one another, of which `step` looks after the one that is running."""

    fits: Sequence[Fit]
    output: IO[bytes]
    """What they print; whoever has it open holds the job."""
    environment: Mapping[str, str]
    watch: Watch | None = None
    is_pruned: bool = False
    """Whether the first run was told to stop, by this process or by one before."""
    _process: subprocess.Popen[bytes] | None = None
    _deaths: int = 0
    _saved: bytes = b""
    _seen: int = -1
    _fit: Fit = field(init=False)
    _run: RunFolder = field(init=False)

    def step(self) -> Outcome | None:
        """Begin what is next, or look at what is running; return how the job ended, once it has."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                self._look()
                return None
            self._process = None
            return self._ended(128 - code if code < 0 else code)
        fit = next((fit for fit in self.fits if not fit.is_finished), None)
        if fit is None:
            return Outcome([fit.summary for fit in self.fits])
        self._fit, self._run = fit, RunFolder(fit.folder)
        before = self._before()
        if before is None:
            self._start(fit)
        return before

    def stop(self) -> None:
        """Ask the run to save and stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for the run to end."""
        if self._process is not None:
            self._process.wait()

    def standing(self, metric: str) -> str:
        """Say which run is being made, and how far it has come."""
        if self._process is None:
            return ""
        rows = self._run.read_metrics()
        epochs = max((int(row.get("epoch", 0)) for row in rows), default=0)
        latest = next((row[metric] for row in reversed(rows) if metric in row), None)
        said = "" if latest is None else f", {metric} {latest:.4f}"
        return f"{self._run.path}: {counted(epochs, 'epoch')} done{said}"

    def _start(self, fit: Fit) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            fit.command,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env=dict(self.environment),
            # Ctrl-C is for the sweep, which stops its runs once, so that each saves.
            start_new_session=True,
            preexec_fn=ending_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no thread is waited for
        )

    def _look(self) -> None:
        """Let the first run's metrics decide whether it goes on, whenever there are more."""
        run = RunFolder(self.fits[0].folder)
        if self.watch is None or self.is_pruned or self.fits[0].is_finished:
            return
        size = run.metrics.stat().st_size if run.metrics.exists() else -1
        if size == self._seen:
            return
        self._seen = size
        if self.watch(run.read_metrics()):
            self.is_pruned = True
            self.stop()

    def _before(self) -> Outcome | None:
        """Return how the job ended already, before the process that watched it was killed."""
        if self._is_stopped():
            return Outcome(pruned=True)
        # A run that diverged would go on from an earlier checkpoint, and is another one then.
        status = self._run.read_status()
        if status.get("state") == "failed" and status.get("code") in OF_THE_TRIAL:
            return Outcome(failed=OF_THE_TRIAL[status["code"]], said=self._said())
        return None

    def _ended(self, code: int) -> Outcome | None:
        """Return what it means for the job that its process ended."""
        if self._fit.is_finished:
            return None
        if self._is_stopped():
            return Outcome(pruned=True)
        if code in OF_THE_TRIAL or code in OF_ALL_TRIALS:
            whole = code if code in OF_ALL_TRIALS else 0
            return Outcome(failed=OF_THE_TRIAL.get(code, ""), code=whole, said=self._said())
        # Killed, or without its workers: it goes on, unless it dies each time at the same place.
        manifest = self._run.manifest
        saved = manifest.read_bytes() if manifest.exists() else b""
        self._deaths = 1 if saved != self._saved else self._deaths + 1
        self._saved = saved
        if self._deaths < HOPELESS:
            return None
        what = f"ended {HOPELESS} times in a row with exit code {code}"
        return Outcome(failed=what, said=self._said())

    def _is_stopped(self) -> bool:
        return self.is_pruned and self._run.path == self.fits[0].folder

    def _said(self) -> str:
        """Return the last error that the runs have printed, without the program's name."""
        lines = Path(self.output.name).read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("vtrain: ")]
        return errors[-1].removeprefix("vtrain: ").removeprefix("error: ") if errors else ""
