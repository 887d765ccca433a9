"""The config of an evaluation: the run's own, with other images or another device if asked for."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vtrain.config.read import config_from_text, stored_config
from vtrain.config.retired import COMMAND_LINE
from vtrain.config.schema import is_used_by_eval, keys_of
from vtrain.config.sections import Config
from vtrain.data.datasets.splits import Split
from vtrain.errors import ConfigError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.yaml import parse_value
from vtrain.registry import SOURCES


@dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation goes by."""

    run: Config
    """Of the run, as it is stored."""
    changed: Config
    """With the overrides, and with the run's choice of images where they do not say otherwise."""
    whole: Config
    """With the overrides, and all images where they do not say otherwise."""
    is_elsewhere: bool = False
    """Whether what is stored does not say where the run's images are."""

    @property
    def is_other_data(self) -> bool:
        """Whether the images come from elsewhere than those of the run."""
        before, after = self.run.data, self.changed.data
        # `download` says how to come by the images, not which they are.
        keys = keys_of(SOURCES[after.name]) - {"download"}
        differ = (getattr(before, key) != getattr(after, key) for key in keys)
        return self.is_elsewhere or before.name != after.name or any(differ)

    @property
    def has_other_split(self) -> bool:
        """Whether other images than the run's are held out, or another part of them is used."""
        before, after = self.run.data, self.changed.data
        return any(getattr(before, key) != getattr(after, key) for key in keys_of(Split))


def evaluation_config(
    checkpoint: Checkpoint, path: Path, overrides: Iterable[str], *, portable: bool = False
) -> EvaluationConfig:
    """Return the config of a checkpoint's run, changed by what the command line says.

    A `portable` file has left the paths of its config where they are.

    Raises:
        CheckpointError: What is stored is not valid; `path` names the checkpoint.
        ConfigError: An override is not, or it would be ignored.
    """
    overrides = list(overrides)
    read = partial(stored_config, checkpoint, path)
    if portable:  # what is missing is the command line's mistake, and not the file's
        read = partial(config_from_text, checkpoint.config, f"config in {path}")
    is_elsewhere = False
    try:
        run = read()
    except ConfigError:
        # Without its paths the config is not valid by itself: the overrides say where images are.
        run, is_elsewhere = read(overrides), True
    name = run.data.name
    for override, section, key, value in _assigned(overrides):
        known = key in type(getattr(run, section)).model_fields if key else section != "data"
        # An unknown key is another mistake, which the schema of the whole tells.
        if known and not (key and is_used_by_eval(run, section, key)):
            dotted = f"{section}.{key}" if key else section
            raise ConfigError(
                f"{dotted} has no effect on an evaluation",
                f"{COMMAND_LINE} '{override}'",
                _instead(run, section, key),
            )
        if (section, key) == ("data", "name") and isinstance(value, str):
            name = value
    # Another kind of dataset has other keys, and its own folder.
    other = keys_of(SOURCES[run.data.name]) if name != run.data.name else set()
    changed, whole = read(overrides, other), read(overrides, other | keys_of(Split))
    return EvaluationConfig(run, changed, whole, is_elsewhere)


def _assigned(overrides: Iterable[str]) -> Iterator[tuple[str, str, str, object]]:
    """Yield (override, section, key, value); a section written as a whole gives all its keys."""
    for override in overrides:
        dotted, _, text = override.partition("=")
        section, *keys = dotted.split(".")
        if section not in Config.model_fields:
            continue
        try:
            value = parse_value(text, override)
        except ConfigError:
            value = None  # told when it is applied
        if keys:
            yield override, section, keys[0], value if len(keys) == 1 else None
        elif isinstance(value, Mapping):
            yield from ((override, section, str(key), item) for key, item in value.items())
        else:  # a component by its name alone
            yield override, section, "name" if section == "data" else "", value


def _instead(run: Config, section: str, key: str) -> str:
    """Say what to write instead."""
    near = f"eval_{key}"
    if key and near in type(getattr(run, section)).model_fields:
        return f"write {section}.{near}"
    return "leave it out: the checkpoint decides it"
