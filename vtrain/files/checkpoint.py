"""What a checkpoint holds: its schema, as a type, and nowhere else.

`container` turns the content into bytes and back and does not ask what it means, `store` keeps the
checkpoints of a run folder. Importing this imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_origin

from vtrain import __version__
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.container import FORMAT, load_checkpoint, save_checkpoint
from vtrain.files.manifest import Written

if TYPE_CHECKING:
    from torch import Tensor

ENDING = ".pt"
HINT = "use another checkpoint; model.pretrained can still take the weights of this one"


@dataclass(frozen=True)
class ModelDescription:
    """What builds the model again: a name of the zoo and what its constructor is called with."""

    name: str
    """One of the zoo's."""
    arguments: dict[str, Any]
    """What the section `model` of a config says, without the name."""
    image_size: int
    """Pixels per side."""
    in_channels: int
    """Colours of an image."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that a checkpoint file holds; each field is a key of the file.

    `eval` and `predict` need nothing else, and `fit --resume` needs the dataset besides.
    """

    format: int = FORMAT
    """Version of the schema."""
    vtrain: str = __version__
    """Version of the program that wrote it."""
    model: ModelDescription
    classes: tuple[str, ...]
    """The names of the logits, in order."""
    preprocess: dict[str, Any]
    """What `Preprocess.to_dict` gives."""
    dataset: dict[str, Any]
    """The fingerprint of the images that the run began with."""
    config: str
    """The whole resolved config, as YAML."""
    metrics: dict[str, float]
    """What the last evaluation gave; empty before the first."""
    state: dict[str, Any]
    """What `TrainState.state_dict` gives, or `model` and `ema` alone: then no run can go on."""
    is_best: bool = False
    """Whether it was the best of its run when it was written."""
    thresholds: tuple[float, ...] = ()
    """Of a model of several labels an image: the probability from which on it has each class. None
    of a model that names the likeliest class, nor in files of versions that knew no others."""

    @property
    def weights(self) -> dict[str, "Tensor"]:
        """The weights to evaluate: the average where the run kept one, else the raw ones."""
        return evaluated_weights(self.state)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        step: int = self.state["step"]
        return step

    def with_weights(self, weights: dict[str, "Tensor"]) -> Self:
        """Return a copy that holds these weights alone; no training can go on from it."""
        return replace(self, state={"model": weights, "ema": None})

    def to_content(self) -> dict[str, Any]:
        """Return the plain data and tensors of the file; tensors are not copied."""
        # Not `asdict`, which would copy every tensor.
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content |= {"model": dict(vars(self.model)), "classes": list(self.classes)}
        # Last, and left out of one class an image: such a file is what older versions wrote.
        thresholds = content.pop("thresholds")
        return {**content, "thresholds": list(thresholds)} if thresholds else content

    @classmethod
    def from_content(cls, content: Mapping[str, Any], path: Path) -> Self:
        """Undo `to_content`, and trust nothing: `path` is for the message.

        Raises:
            CheckpointError: A field is missing or of a wrong kind; the message names it.
        """
        values = _checked({"thresholds": [], **content}, cls, path)
        described = _checked(values["model"], ModelDescription, path, "model.")
        # One level deeper where a wrong value would otherwise surface far from here. Arguments
        # and preprocessing are checked by the constructors that take them.
        if not all(type(name) is str for name in values["classes"]):
            raise _wrong("classes", values["classes"], "a list of names", path)
        if not all(type(value) in (float, int) for value in values["metrics"].values()):
            raise _wrong("metrics", values["metrics"], "a mapping of names to numbers", path)
        thresholds = values["thresholds"]
        if len(thresholds) not in (0, len(values["classes"])) or not all(
            type(value) is float and 0 <= value <= 1 for value in thresholds
        ):
            raise _wrong("thresholds", thresholds, "a probability for each class", path)
        _check_weights(values["state"], path)
        values |= {"model": ModelDescription(**described), "classes": tuple(values["classes"])}
        values["thresholds"] = tuple(thresholds)
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a checkpoint onto the CPU.

        Raises:
            CheckpointError: It is absent, damaged, unsafe, or no checkpoint of this vtrain.
        """
        return cls.from_content(load_checkpoint(path), path)

    def save(self, path: Path) -> Written:
        """Write it to `path`, verified before it is published there.

        Raises:
            StorageError: It cannot be written; what was at `path` is untouched.
        """
        return save_checkpoint(path, self.to_content())


def refuse_other_ending(path: Path) -> None:
    """Refuse a name by which nobody would take a file for a checkpoint, before work is done for it.

    Raises:
        ConfigError: It does not end in `.pt`.
    """
    if path.suffix != ENDING:
        hint = f"name it {path.stem or 'model'}{ENDING}; `vtrain export` writes other formats"
        raise ConfigError(f"a checkpoint's name ends in {ENDING}", path, hint)


def evaluated_weights(state: Mapping[str, Any]) -> dict[str, "Tensor"]:
    """Return the weights in a training state that are evaluated: averaged, if any are.

    Raises:
        KeyError: There are none.
    """
    # Here alone it is decided: for eval, predict, the teacher and model.pretrained.
    ema = state.get("ema")
    weights: dict[str, Tensor] = ema["weights"] if ema is not None else state["model"]
    return weights


_WORDS: dict[Any, str] = {
    int: "a whole number",
    str: "text",
    dict: "a mapping",
    list: "a list",
    bool: "true or false",
}


def _checked(
    content: Mapping[str, Any],
    schema: type["Checkpoint | ModelDescription"],
    path: Path,
    of: str = "",
) -> dict[str, Any]:
    """Return the values of a dataclass's fields, each of the type that its field has in a file."""
    values = {}
    for field in fields(schema):
        if field.name not in content:
            raise CheckpointError(f"the checkpoint has no '{of}{field.name}'", path, HINT)
        # The annotations are the schema; a file has lists for tuples, mappings for dataclasses.
        kind: Any = get_origin(field.type) or field.type
        kind = {tuple: list, ModelDescription: dict}.get(kind, kind)
        values[field.name] = value = content[field.name]
        # The very type: plain data has no subclasses, and True is no whole number.
        if type(value) is not kind:
            raise _wrong(of + field.name, value, _WORDS[kind], path)
    return values


def _check_weights(state: Mapping[str, Any], path: Path) -> None:
    """Check that the state holds weights; what else a resume needs is its own to find out."""
    import torch

    parts = {"state.model": state.get("model")}
    if state.get("ema") is not None:
        average = state["ema"]
        parts["state.ema"] = average.get("weights") if isinstance(average, dict) else average
    for key, weights in parts.items():
        # A state dict is an OrderedDict, a gathered or averaged one a plain dict.
        if not isinstance(weights, dict) or not weights:
            raise _wrong(key, weights, "a mapping of names to tensors", path)
        for name, tensor in weights.items():
            if not isinstance(tensor, torch.Tensor):
                raise _wrong(f"{key}.{name}", tensor, "a tensor", path)


def _wrong(key: str, value: object, wanted: str, path: Path) -> CheckpointError:
    what = f"the checkpoint's '{key}' is {value!r:.60}, not {wanted}"
    return CheckpointError(what, path, HINT)
