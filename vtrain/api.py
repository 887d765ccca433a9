"""The Python entry points, for notebooks and programs: what the commands do, as functions.

Each is a call of what its command calls. A mistake is an exception of `vtrain.errors`, whose text
is the line that the command prints.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtrain.errors import ConfigError
from vtrain.files.runs import RunFolder
from vtrain.inference.files import Prediction
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

if TYPE_CHECKING:
    from vtrain.run.evaluate import Evaluation

__all__ = [
    "LoadedModel",
    "Prediction",
    "RunFolder",
    "create_model",
    "evaluate",
    "fit",
    "list_models",
    "load_model",
    "predict",
]

AnyPath = str | os.PathLike[str]


def fit(
    config: AnyPath,
    *,
    run_dir: AnyPath | None = None,
    resume: bool = False,
    start: str | None = None,
    **overrides: Any,
) -> RunFolder:
    """Train what a config describes, or a model that suits a folder of images.

    It is `vtrain fit`, with the same words on stderr and the same run folder. Ctrl-C, or a
    notebook's stop button, saves a checkpoint first.

    Args:
        config: A YAML file, a recipe's name, a folder of images, or a run folder.
        run_dir: The run's folder; a new one under `runs/` unless given.
        resume: Go on with the run at `config`, in `run_dir`, or the newest of the config.
        start: Weights to fine-tune on a folder of images: what `--from` takes.
        overrides: Sections of the config as keywords, each a mapping of its keys to values, as in
            `train={"epochs": 5}`; what they leave out stays.

    Returns:
        The run. It is a path, so that `load_model`, `evaluate` and `predict` take it;
        `read_summary()` has the final and best metrics, `read_metrics()` a row for each log and
        evaluation.

    Raises:
        ConfigError: The config is not valid; the error has a line for each mistake.
        DataError: The images cannot be learnt from.
        StoppedBySignal: It was interrupted; a checkpoint is saved.
        VtrainError: The run cannot start or go on for another reason.

    Examples:
        >>> import vtrain
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3}, seed=1)
        >>> run.is_finished
        True
        >>> final = run.read_summary()["final"]
        >>> final["val/top1"] <= final["val/top5"] <= 1  # fractions
        True
        >>> vtrain.fit("vit_digits", train={"epoch": 5})
        Traceback (most recent call last):
        vtrain.errors.ConfigError: unknown key 'train.epoch' (...): did you mean 'epochs'?
    """
    # Only now: who lists models or loads one need not wait for what trains.
    from vtrain.run.fit import fit as run_fit
    from vtrain.run.logs import shown
    from vtrain.run.request import find_request

    folder = None if run_dir is None else Path(run_dir)
    with shown():
        request = find_request(Path(config), _typed(overrides), folder, resume, start)
        return RunFolder(run_fit(request))


def evaluate(
    ckpt: AnyPath | None = None, *, split: str | None = None, **overrides: Any
) -> "Evaluation":
    """Evaluate a trained model on the images it was trained for, or on others.

    Args:
        ckpt: A checkpoint, a run, its folder, or an ONNX file; None: the newest finished run.
        split: `train`, `val` or `test`; `val` unless given, and of other images that have no `val`
            their `test`, else all.
        overrides: As `fit` takes them: `data={"root": "other_photos"}`.

    Returns:
        `metrics` by name, accuracies as fractions; `predictions`: what the model says of each
        image; `to_dict()`: what `vtrain eval --json` prints.

    Raises:
        VtrainError: The checkpoint or the images cannot be used.

    Examples:
        >>> import vtrain
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> evaluation = vtrain.evaluate(run)
        >>> evaluation.metrics["val/top1"] == run.read_summary()["final"]["val/top1"]
        True
        >>> len(evaluation.predictions.classes)
        10
    """
    from vtrain.run.evaluate import evaluate_checkpoint
    from vtrain.run.evaluated import split_name
    from vtrain.run.logs import shown

    with shown():
        path = None if ckpt is None else Path(ckpt)
        part = None if split is None else split_name(split)
        return evaluate_checkpoint(path, _typed(overrides), part)


def predict(
    images: AnyPath | Iterable[AnyPath],
    ckpt: AnyPath | None = None,
    *,
    top_k: int | None = None,
    reject: float | None = None,
    threshold: float | None = None,
) -> list[Prediction]:
    """Name the classes of images.

    Args:
        images: A file, a folder (searched recursively) or a glob, or several of them.
        ckpt: A checkpoint, a run, its folder, or an ONNX file; None: the newest finished run.
        top_k: How many classes to name; 5 unless given, and never more than there are.
        reject: The probability of the likeliest class below which an image is `unsure`.
        threshold: Of a model of several labels: the probability from which on an image has a class,
            in place of each class's own.

    Returns:
        A `Prediction` for each image, in order: `image`, `classes` as (name, probability) from the
        likeliest on, and `error`, which says why an image could not be read. A model of several
        labels names those of at least their thresholds, which may be none.

    Raises:
        DataError: A pattern names no image.
        CheckpointError: There is no usable checkpoint.

    Examples:
        >>> import vtrain
        >>> from PIL import Image
        >>> Image.new("L", (8, 8)).save("black.png")
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> (prediction,) = vtrain.predict("black.png", run, top_k=3)
        >>> len(prediction.classes)
        3
        >>> best, probability = prediction.classes[0]
        >>> best in vtrain.load_model(run).classes
        True
    """
    from vtrain.run.logs import shown
    from vtrain.run.predict import predict_images

    patterns = [images] if isinstance(images, str | os.PathLike) else list(images)
    if not patterns:
        raise ConfigError("there are no images to predict", "images", "name a file or a folder")
    with shown():
        paths = [] if ckpt is None else [Path(ckpt)]
        texts = [os.fspath(p) for p in patterns]
        return list(predict_images(texts, paths, top_k, reject, threshold=threshold))


def create_model(
    name: str, *, num_classes: int = 1000, image_size: int | None = None, **arguments: Any
) -> ImageClassifier:
    """Build a model of the zoo with random weights.

    Args:
        name: One of `list_models()`.
        num_classes: Length of the logits.
        image_size: Pixels per side; the size it was published for unless given.
        arguments: Anything else that the model's section of a config may say, and `in_channels`.

    Raises:
        ConfigError: No model has that name.
        ValueError: The model refuses a combination of values.

    Examples:
        >>> import torch, vtrain
        >>> model = vtrain.create_model("vit_ti", num_classes=10, image_size=32, patch_size=8)
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    component = MODELS[name]
    if image_size is None:
        image_size = component.default("image_size")
    model: ImageClassifier = component(num_classes=num_classes, image_size=image_size, **arguments)
    return model


def list_models() -> list[str]:
    """Return the names of the zoo, sorted.

    Examples:
        >>> import vtrain
        >>> "swin_t" in vtrain.list_models()
        True
    """
    return MODELS.names()


def _typed(overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides as a command line has them, so that they are read and refused as there."""
    return [f"{key}={_text(key, value)}" for key, value in _flat(overrides, "")]


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(key: str, value: Any) -> str:
    """Write a value as JSON, which is YAML; a path is its text, a number of NumPy a number."""

    def plain(other: Any) -> Any:
        if isinstance(other, os.PathLike):
            return os.fspath(other)
        if hasattr(other, "item"):  # NumPy's numbers, and tensors of one
            return other.item()
        what = f"{key} is of type {type(other).__name__}, which no config can hold"
        raise ConfigError(what, key, "give text, a number, true or false, None, or a list of them")

    return json.dumps(value, default=plain)
