"""Which models may be asked, alone or together with others."""

from collections.abc import Sequence
from pathlib import Path

from vtrain.errors import CheckpointError, ConfigError
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.onnx_loaded import load_onnx_model
from vtrain.inference.onnx_model import is_onnx


def load_any(path: Path) -> LoadedModel:
    """Load a checkpoint, a run's, or an exported file."""
    return load_onnx_model(path) if is_onnx(path) else load_model(path)


def refuse_exported(path: Path, lacks: str) -> None:
    """Refuse an exported file where more of a model is needed than its answers.

    Raises:
        ConfigError: It is one; the message says what it `lacks`.
    """
    if is_onnx(path):
        raise ConfigError(f"an exported file has {lacks}", path, "name its run or checkpoint")


def refuse_twice(paths: Sequence[Path]) -> None:
    """Refuse a model that is named twice: it would count twice.

    Raises:
        ConfigError: There is one.
    """
    for number, path in enumerate(paths):
        if path.resolve() in {other.resolve() for other in paths[:number]}:
            raise ConfigError("this model is named twice", path, "name each once")


def refuse_other_classes(loaded: LoadedModel, first: LoadedModel) -> None:
    """Refuse a model whose classes do not have the names of the first one's.

    Raises:
        CheckpointError: It names one that only one of them has.
    """
    differ = sorted(set(loaded.classes) ^ set(first.classes))
    if differ:
        what = f"its classes are not those of {first.path}: only one of them has '{differ[0]}'"
        raise CheckpointError(what, loaded.path, "take models of the same classes")
