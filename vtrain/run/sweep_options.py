"""What the command line of `vtrain sweep` says, and whether a sweep can begin at all."""

import logging
import os
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vtrain.errors import ConfigError
from vtrain.files.runs import RUNS
from vtrain.resources import cpu_count, threads_asked
from vtrain.sweep.storage import JOURNAL

log = logging.getLogger(__name__)
INSTALL = 'pip install "vtrain[sweep]"'


@dataclass(frozen=True)
class Options:
    """What the command line says beside the file."""

    trials: int | None = None
    """How many, in place of the file's number."""
    workers: int = 1
    """Runs at a time."""
    hours: float | None = None
    """After which nothing new begins, and what is running saves and stops."""
    storage: str | None = None
    """The address of a database that several machines share."""
    output: Path | None = None
    """The sweep's folder."""
    rerun: int = 0
    """How often the best is trained again, with other seeds."""

    def folder(self, path: Path) -> Path:
        """Return the folder of the sweep whose file is at `path`."""
        return self.output or RUNS / path.stem


def check_installed() -> None:
    """Refuse to begin without the package of the extra.

    Raises:
        ConfigError: It is missing.
    """
    if find_spec("optuna") is None:
        raise ConfigError("vtrain sweep needs the package optuna", "command line", INSTALL)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        hint = "start it alone; --workers says how many runs there are at a time"
        raise ConfigError("torchrun starts several sweeps", "command line", hint)


def dashboard_command(path: Path, options: Options) -> str:
    """Return the command that shows a sweep in the browser while it runs."""
    place = options.storage or str(options.folder(path) / JOURNAL)
    if find_spec("optuna_dashboard") is None:
        log.info("optuna's dashboard is a package of its own: pip install optuna-dashboard")
    return shlex.join(["optuna-dashboard", place])


def threads(workers: int) -> int:
    """Return the threads of each run where several share the cores."""
    return threads_asked() or max(1, cpu_count() // workers)


def devices() -> list[str]:
    """Return the GPUs that runs are spread over, without waking one of them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return [str(n) for n in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
