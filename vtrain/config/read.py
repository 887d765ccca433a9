"""From a YAML file and overrides to a complete config, with every mistake reported at once."""

import json
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vtrain.config.messages import explain
from vtrain.config.overrides import (
    apply_overrides,
    keep_texts,
    name_components,
    remember,
    too_large,
)
from vtrain.config.recipes import existing_config
from vtrain.config.retired import complete_stored, replace_retired
from vtrain.config.schema import build_schema
from vtrain.config.sections import Config
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.paths import at_home
from vtrain.files.runs import RunFolder
from vtrain.files.yaml import Document, parse_yaml, read_yaml
from vtrain.registry import MODELS

EMPTY: Mapping[str, Any] = {}


def load_config(
    path: Path, overrides: Iterable[str] = (), remembered: Mapping[str, Any] = EMPTY
) -> Config:
    """Read, override (`dotted.key=value`), validate and complete the config in a YAML file.

    `path` may be a run folder: then it is that of the run. `remembered` are values by dotted key
    that come before the overrides.

    Raises:
        ConfigError: Something is wrong; the error holds every mistake, one line each.
    """
    run = RunFolder(path)
    file = run.config if run.is_started else existing_config(path)
    # A recipe by the name that was typed: nobody has seen the folder that it lies in.
    document = read_yaml(file, None if run.is_started or file == path else f"recipe {path}")
    remember(document, remembered)
    return validated(document, overrides)


def config_from_text(
    text: str, name: str, overrides: Iterable[str] = (), without: Collection[str] = ()
) -> Config:
    """Validate a config that is stored as text, such as the one in a checkpoint.

    The keys `without` of its section `data` go before the overrides come.
    """
    document = parse_yaml(text, name)
    complete_stored(document)
    replace_retired(document, stored=True)  # before the overrides, which a user types
    data = document.data.get("data")
    if isinstance(data, dict):  # nothing is checked yet
        document.data["data"] = {key: data[key] for key in data if key not in without}
    return validated(document, overrides)


def stored_config(
    checkpoint: Checkpoint, path: Path, overrides: Iterable[str] = (), without: Collection[str] = ()
) -> Config:
    """Return the config of a checkpoint's run, changed by what the command line says.

    `without` names keys of `data` whose stored values are left out.

    Raises:
        CheckpointError: What is stored is not valid; `path` names the checkpoint.
        ConfigError: An override is not.
    """
    try:
        return config_from_text(checkpoint.config, f"config in {path}", overrides, without)
    except ConfigError as error:
        if overrides:
            stored_config(checkpoint, path)  # raises if what is stored is wrong by itself
            raise
        raise CheckpointError(f"the stored config is not valid: {error.what}", path) from error


def validated(document: Document, overrides: Iterable[str] = ()) -> Config:
    """Check a document against the schema of the components it names."""
    name_components(document)
    unread = apply_overrides(document, overrides)
    replace_retired(document, stored=False)
    mistakes = document.mistakes  # those of the reader and the overrides; it grows from here on
    # Overrides come first: one of them may name the component whose keys are then allowed.
    schema = build_schema(document)
    unread = keep_texts(document, schema, unread)
    unread |= too_large(document)
    mistakes += unread.values()
    try:
        # JSON's strict mode takes a list for a tuple and text for a path, but no text for a number.
        config: Config = schema.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        mistakes += explain(error, document, schema, but=unread)
    if mistakes:
        raise ConfigError.all_of(sorted(mistakes, key=_line))
    return _completed(config)


def _line(mistake: ConfigError) -> int:
    """Return the line of the file that a mistake is in; overrides come last."""
    _, colon, line = str(mistake.where).rpartition(":")
    return int(line) if colon and line.isdecimal() else sys.maxsize


def _completed(config: Config) -> Config:
    """Fill in what depends on other sections, and make paths independent of the folder."""
    data: dict[str, Any] = {}
    if config.data.image_size is None:
        data["image_size"] = MODELS[config.model.name].default("image_size")
    for name, value in config.data:
        if isinstance(value, Path):
            data[name] = at_home(value).absolute()
    return config.model_copy(update={"data": config.data.model_copy(update=data)})
