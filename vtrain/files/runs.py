"""The folders of runs: `runs/<config name>/<date_time>/`, what they hold, and which is which."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from vtrain.errors import CheckpointError, ConfigError, StorageError
from vtrain.files.atomic import explain, make_folder, write_json

RUNS = Path("runs")
STATUS = "status.json"


def new_run_folder(name: str, root: Path = RUNS) -> Path:
    """Make a folder that no other run has, named after the config and the time.

    Raises:
        StorageError: It cannot be made.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1000):
        folder = root / name / (stamp if attempt == 0 else f"{stamp}_{attempt}")
        make_folder(folder.parent)
        try:
            folder.mkdir()  # atomic: of two runs that start in the same second, one gets the name
        except FileExistsError:
            continue
        except OSError as error:
            raise explain(error, folder) from None
        return folder
    raise StorageError("no free name for a run folder", root / name)


def read_status(folder: Path) -> dict[str, Any]:
    """Return a run's `status.json`, or an empty dict where there is none or it is damaged."""
    return read_facts(folder / STATUS)


def read_facts(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run says, or an empty dict if it is absent or damaged."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def write_status(folder: Path, state: str, **facts: Any) -> None:
    """Record what a run is doing: `running`, `finished`, `stopped` or `failed`."""
    write_json(folder / STATUS, {"state": state, **facts})


def is_run_folder(folder: Path) -> bool:
    """Whether a run got as far as its first step in the folder: it then has a config."""
    return (folder / "config.yaml").exists()


def newest_run(*, finished: bool, name: str | None = None, root: Path = RUNS) -> Path | None:
    """Return the newest run, of one config or of any, that is finished or is not; None if none."""
    groups = [root / name] if name else (sorted(root.iterdir()) if root.is_dir() else [])
    runs = [run for group in groups if group.is_dir() for run in group.iterdir()]
    chosen = [
        run
        for run in runs
        if is_run_folder(run) and (read_status(run).get("state") == "finished") == finished
    ]
    return max(chosen, key=lambda run: run.name, default=None)  # names are times


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint that `--ckpt` means: the file, or a run's `best.pt`, else `last.pt`.

    Raises:
        CheckpointError: There is none.
        ConfigError: It is a URL.
    """
    if "://" in str(path) or ":/" in str(path):  # a Path has folded the two slashes of a URL
        raise ConfigError("only local checkpoints are read", path, "download the file first")
    if not path.is_dir():
        return path
    for name in ("best.pt", "last.pt"):
        if (path / name).exists():
            return path / name
    raise CheckpointError("no checkpoint in this folder", path, "give a .pt file or a run folder")
