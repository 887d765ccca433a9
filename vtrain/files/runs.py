"""The folders of runs: `runs/<config name>/<date_time>/`, what they hold, and which is which."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from vtrain.errors import CheckpointError, ConfigError, StorageError, counted
from vtrain.files.atomic import explain, make_folder, write_json

RUNS = Path("runs")
DEPTH = 4
"""Folders below `runs/` in which runs are looked for: experiment, config, sweep, trial."""


class _File:
    """The path of a file in a run folder; of the class itself, its bare name as a path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunFolder | None", owner: type) -> Path:
        return Path(self.name) if run is None else run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. The only place that knows what its files are called."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    config = _File("config.yaml")
    """Every value of the config, resolved. It is there once a run has all its parts."""
    metrics = _File("metrics.jsonl")
    """One JSON object for each log and each evaluation."""
    last = _File("last.pt")
    """A further name of the newest checkpoint."""
    best = _File("best.pt")
    """A further name of the checkpoint with the best metric."""
    manifest = _File("checkpoints.json")
    """Which checkpoints there are, with their checksums."""
    summary = _File("summary.json")
    """Final and best metrics, time, throughput and memory of a finished run."""
    predictions = _File("predictions.npz")
    """What the best checkpoint says of every validation image."""
    report = _File("report.html")
    """The page that `vtrain report` writes, with its JSON twin beside it."""
    status = _File("status.json")
    """What the run is doing, or how it ended."""
    environment = _File("env.json")
    """Versions, machine and command."""
    log = _File("vtrain.log")
    """Every message, with times and tracebacks."""
    tensorboard = _File("tensorboard")
    """The folder of the event files."""
    lock = _File(".lock")
    """Held by the process that writes here."""

    @property
    def is_started(self) -> bool:
        """Whether a run got as far as its first step here."""
        return self.config.exists()

    @property
    def is_finished(self) -> bool:
        """Whether the run here has made all its steps."""
        return bool(self.read_status().get("state") == "finished")

    @property
    def checkpoint(self) -> Path:
        """The checkpoint to use: the best one, else the last.

        Raises:
            CheckpointError: There is none.
        """
        # Until there is an evaluation both are the same file; a copied folder may have only one.
        for path in (self.best, self.last):
            if path.exists():
                return path
        hint = self.instead or "give a .pt file or a run folder"
        raise CheckpointError("no checkpoint in this folder", self.path, hint)

    @property
    def instead(self) -> str:
        """Which run may be meant by a folder that is none: the newest below it; else nothing."""
        below = [run for run in map(type(self), _folders(self.path, DEPTH)) if run.is_started]
        if not below:
            return ""
        newest = max(below, key=lambda run: run.time)
        return f"it holds {counted(len(below), 'run')}; the newest is {newest.path}"

    def read_status(self) -> dict[str, Any]:
        """Return what the run is doing, or an empty dict where that is not known."""
        return _read_json(self.status)

    def write_status(self, state: str, **facts: Any) -> None:
        """Record what the run is doing, and since when: running, finished, stopped or failed."""
        # Not the file's own time, which a copy of the folder does not keep.
        now = datetime.now(UTC).isoformat()
        write_json(self.status, {"state": state, **facts, "time": now})

    @property
    def time(self) -> float:
        """When the status was recorded, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.read_status()["time"]).timestamp()
        except (KeyError, TypeError, ValueError):  # of an older version, or killed before that
            path = self.status if self.status.exists() else self.config
            return path.stat().st_mtime

    @property
    def name(self) -> str:
        """What runs of the same config are called."""
        name = self.read_environment().get("name")
        # Older versions did not record it: they named the folder of the folder after the config.
        return name if isinstance(name, str) else self.path.absolute().parent.name

    def read_environment(self) -> dict[str, Any]:
        """Return the environment of the last start, or an empty dict."""
        return _read_json(self.environment)

    def read_summary(self) -> dict[str, Any]:
        """Return final metrics, time and memory, or an empty dict before the end."""
        return _read_json(self.summary)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of logs and evaluations; a damaged line is left out."""
        try:
            lines = self.metrics.read_text().splitlines()
        except (OSError, ValueError):
            return []
        return [row for line in lines if (row := _parse_object(line))]

    @classmethod
    def new(cls, name: str, root: Path = RUNS) -> Self:
        """Make a folder that no other run has, named after the config and the time.

        Raises:
            StorageError: It cannot be made.
        """
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for attempt in range(1000):
            folder = root / name / (stamp if attempt == 0 else f"{stamp}_{attempt}")
            make_folder(folder.parent)
            try:
                folder.mkdir()  # atomic: of two runs started in one second, one gets the name
            except FileExistsError:
                continue
            except OSError as error:
                raise explain(error, folder) from None
            return cls(folder)
        raise StorageError("no free name for a run folder", root / name)

    @classmethod
    def newest(cls, *, finished: bool, name: str | None = None, root: Path = RUNS) -> Self | None:
        """Return the newest run, of one config or of any, that is finished or is not."""
        # A folder without a config is of a run that never came to its first step: not looked at.
        runs = [run for run in map(cls, _folders(root, DEPTH)) if run.is_started]
        chosen = [run for run in runs if run.is_finished == finished]
        if name is not None:
            chosen = [run for run in chosen if run.name == name]
        # By time alone: a folder may have any name, and a copy has the time of what it copies.
        return max(chosen, key=lambda run: run.time, default=None)


class Beginning:
    """A place where a run may begin, as it is now: what comes to it can be taken away again."""

    def __init__(self, path: Path) -> None:
        self.run = run = RunFolder(path)
        self.is_over = False
        """Whether a new run has failed before its first step, although it had all its parts."""
        inner = (run.tensorboard, path, *path.parents)
        self.folders = [folder for folder in inner if not folder.exists()]
        self.before = {file for file in self._files() if os.path.lexists(file)}

    def with_folder(self, path: Path) -> "Beginning":
        """Return the same for a new folder that has just been made below this one."""
        beginning = Beginning(path)
        beginning.folders = [beginning.run.tensorboard, path, *self.folders]
        return beginning

    def _files(self) -> Iterator[Path]:
        """Yield what a run writes before its first step, whether it is there or not."""
        run = self.run
        yield from (run.config, run.environment, run.status, run.metrics, run.log, run.lock)
        with suppress(OSError):
            yield from run.tensorboard.iterdir()

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Leave nothing behind of a run that fails before its first step, but what was there."""
        try:
            yield
        except BaseException:
            self.undo()
            raise

    def undo(self, _: object = None) -> None:
        """Take away what has come since, unless a run has made its first step."""
        if self.run.is_started and not self.is_over:
            return
        # Why it failed is what counts: a file that cannot be removed is no reason.
        for file in set(self._files()) - self.before:
            with suppress(OSError):
                file.unlink()
        for folder in self.folders:  # outwards, and none that holds something else
            with suppress(OSError):
                folder.rmdir()


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint that `--ckpt` means: the file, or that of a run folder.

    Raises:
        CheckpointError: There is none.
        ConfigError: It is a URL.
    """
    if "://" in str(path) or ":/" in str(path):  # a Path has folded the two slashes of a URL
        raise ConfigError("only local checkpoints are read", path, "download the file first")
    if str(path).startswith(("hf-hub:", "timm:")):
        hint = "other programs' weights begin a run: fit CONFIG model.pretrained=..."
        raise ConfigError("the hub has no checkpoints of vtrain", path, hint)
    return RunFolder(path).checkpoint if path.is_dir() else path


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below `root`, down to `depth`; hidden ones and event files are no runs."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir()]
    except OSError:  # absent, or not to be read
        return
    for path in folders:
        if path.name.startswith(".") or path.name == RunFolder.tensorboard.name:
            continue
        yield path
        if depth > 1:
            yield from _folders(path, depth - 1)


def _read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file says, or an empty dict if it is absent or damaged."""
    try:
        return _parse_object(path.read_text())
    except (OSError, ValueError):
        return {}


def _parse_object(text: str) -> dict[str, Any]:
    """Return the object that a JSON text is, or an empty dict if it is none."""
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
