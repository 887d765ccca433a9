"""What a command line of `vtrain fit` asks for: which config, and which run of it.

With `--resume` the config is that of a run that exists, as far as this command line does not say
otherwise: nothing that was typed before has to be typed again.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtrain.config import Config, load_config
from vtrain.config.recipes import YAML, existing_config
from vtrain.data.progress import said_if_long
from vtrain.errors import CheckpointError, ConfigError, DataError, printable
from vtrain.files.runs import RunFolder
from vtrain.run.no_config import refuse_other_files
from vtrain.run.text.command import resume_command

if TYPE_CHECKING:
    from vtrain.data.datasets.folder import ImageFolder

log = logging.getLogger(__name__)

OF_ONE_COMMAND = ("train.max_steps",)
"""Keys that limit what one command does of a run: the next one does not remember them."""


@dataclass(frozen=True)
class Request:
    """A config, and the run that is to be made of it or to go on with it."""

    config: Config
    name: str
    """What runs of this config are called."""
    run_dir: Path | None = None
    """The run's folder; None asks for a new one under `runs/`."""
    resume: bool = False
    """Whether a run in that folder goes on."""
    overridden: tuple[str, ...] = ()
    """The keys that this command line or an earlier one of the run has set."""
    listed: "ImageFolder | None" = None
    """The folder of images that the config was made for."""

    @property
    def goes_on(self) -> Path | None:
        """The folder of the run that goes on, if there is one: it has what was typed before."""
        is_there = self.resume and self.run_dir is not None and RunFolder(self.run_dir).is_started
        return self.run_dir if is_there else None


def find_request(
    path: Path,
    overrides: Sequence[str] = (),
    run_dir: Path | None = None,
    resume: bool = False,
    start: str | None = None,
) -> Request:
    """Find out what a command line asks for.

    Args:
        path: A YAML file, a recipe's name, a folder of images, or a run folder, whose config it is.
        overrides: `dotted.key=value`, as typed.
        run_dir: The run's folder, as typed.
        resume: Whether a run is to go on: the one at `path`, else the one in `run_dir`, else the
            newest unfinished one of the config; a new one if there is none.
        start: Weights to fine-tune on a folder of images.

    Raises:
        ConfigError: The config is not valid, or two runs are named.
        CheckpointError: The run that is to go on is not there.
    """
    refuse_other_files(path)
    typed = tuple(dict.fromkeys(override.partition("=")[0] for override in overrides))
    named = run_of(path)
    is_photos = named is None and path.is_dir()
    _refuse_start(path, start)
    _look_for(path, resume)
    name = _name(path) if named is None else named.name
    if not resume:
        config, listed = config_and_folder_at(path, overrides, start)
        return Request(config, name, run_dir, False, typed, listed)
    if named is not None and run_dir is not None and not _same(named.path, run_dir):
        if path.is_dir():
            what = f"--run-dir names another run than {path}"
            raise ConfigError(what, "command line", "name one of them")
        named = None  # the config file of a run, for another run
    if named is not None:
        run, config = named, load_config(named.config, overrides)
    elif (unfinished := _existing(name, run_dir)) is not None:
        # What was chosen for a folder of images is in the run, and is not chosen again.
        path = unfinished.config if is_photos else path
        run, config = unfinished, load_config(path, overrides, _remembered(unfinished))
    else:
        config, listed = config_and_folder_at(path, overrides, start)
        return Request(config, name, run_dir, True, typed, listed)
    overridden = tuple(dict.fromkeys((*_overridden(run), *typed)))
    return Request(config, run.name, run.path, True, overridden)


def _refuse_start(path: Path, start: str | None) -> None:
    if start is not None and (run_of(path) is not None or not path.is_dir()):
        hint = "write model.pretrained=... for a config"
        raise ConfigError("--from is for a folder of images", "command line", hint)


def _look_for(path: Path, resume: bool) -> None:
    """Refuse a config or a run that is not there, before anything is said of its runs."""
    if path.exists():
        return
    try:
        existing_config(path)
    except ConfigError as error:
        # Like any run that is not there: who goes on with one names it in a config's place.
        if resume and path.suffix.lower() not in YAML:
            raise CheckpointError("there is no such run or config", path, error.hint) from None
        raise


def config_and_folder_at(
    path: Path, overrides: Sequence[str] = (), start: str | None = None
) -> "tuple[Config, ImageFolder | None]":
    """Return the config at a path, or one made for the folder of images there, and that listed.

    Args:
        path: A YAML file, a recipe's name, a run folder, or a folder of images.
        overrides: `dotted.key=value`, as typed.
        start: Weights to fine-tune on a folder of images.

    Raises:
        ConfigError: The config is not valid.
        DataError: The folder holds no images that can be learnt from.
    """
    refuse_other_files(path)
    _refuse_start(path, start)
    if run_of(path) is None and path.is_dir():
        from vtrain.run.photos import chosen_for  # torch, which a mistake in YAML must not load

        try:
            return chosen_for(path, overrides, start)
        except DataError as error:  # a folder of runs has no images
            error.hint = RunFolder(path).instead or error.hint
            raise
    return load_config(path, overrides), None


def _name(path: Path) -> str:
    """Return what runs of a file or folder are called: `.` has a name, too."""
    return path.absolute().resolve().name if path.is_dir() else path.stem


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a path names by its folder or by the config in it."""
    run = RunFolder(path.parent if path.name == RunFolder.config.name else path)
    # Anybody's file may be called config.yaml: only a run has a record of how it was started.
    records = (run.environment, run.status, run.manifest, run.last)
    return run if run.is_started and any(path.exists() for path in records) else None


def _existing(name: str, run_dir: Path | None) -> RunFolder | None:
    """Return the run that goes on, which has come to its first step; None if there is none."""
    if run_dir is not None:
        run = RunFolder(run_dir)
        if not run.is_started:
            log.info("there is no run in %s: starting a new one", run_dir)
        return run if run.is_started else None
    with said_if_long(f"looking for runs of {printable(name)}"):
        unfinished = RunFolder.newest(finished=False, name=name)
        finished = RunFolder.newest(finished=True, name=name)
    if unfinished is None:
        log.info("there is no unfinished run of %s: starting a new one", name)
        if finished is not None:
            command = resume_command(finished.path)
            log.info("(%s is finished; how to train it on, say: %s)", finished.path, command)
    elif finished is not None and finished.time > unfinished.time:
        log.info("going on with %s; %s is newer, but finished", unfinished.path, finished.path)
    return unfinished


def _remembered(run: RunFolder) -> dict[str, Any]:
    """Return what earlier command lines of a run have set, with the values that it runs with."""
    values = load_config(run.config).model_dump(mode="json")
    found = {key: value_at(values, key) for key in _overridden(run) if key not in OF_ONE_COMMAND}
    # A key of a component that another one has replaced is not there any more.
    return {key: value for key, (is_there, value) in found.items() if is_there}


def _overridden(run: RunFolder) -> tuple[str, ...]:
    keys = run.read_environment().get("overridden")
    return tuple(map(str, keys)) if isinstance(keys, list) else ()


def value_at(values: Any, dotted: str) -> tuple[bool, Any]:
    """Return whether there is such a key in the nested values of a config, and its value."""
    for key in dotted.split("."):
        if not isinstance(values, dict) or key not in values:
            return False, None
        values = values[key]
    return True, values


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
