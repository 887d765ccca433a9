"""The config that a checkpoint holds."""

from collections.abc import Iterable
from pathlib import Path

from vtrain.config import Config, config_from_text
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.checkpoint import Checkpoint


def stored_config(checkpoint: Checkpoint, path: Path, overrides: Iterable[str] = ()) -> Config:
    """Return the config of a checkpoint's run, changed by what the command line says.

    Raises:
        CheckpointError: What is stored is not valid; `path` names the checkpoint.
        ConfigError: An override is not.
    """
    try:
        return config_from_text(checkpoint.config, f"config in {path}", overrides)
    except ConfigError as error:
        if overrides:  # then it is most likely one of them, and the message says which
            raise
        raise CheckpointError(f"the stored config is not valid: {error.what}", path) from error
