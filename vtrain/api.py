"""The Python entry points, for notebooks and programs: what the commands do, as functions.

Each is a call of what its command calls. A mistake is an exception of `vtrain.errors`, whose text
is the line that the command prints.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtrain.errors import ConfigError, printable
from vtrain.files.runs import RunFolder
from vtrain.inference.feature_file import FeatureFile
from vtrain.inference.files import Prediction
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.views import NAMES, Views
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

if TYPE_CHECKING:
    from vtrain.run.evaluate import Evaluation
    from vtrain.run.similar import Similar
    from vtrain.run.together import Together

__all__ = [
    "Evaluation",
    "FeatureFile",
    "LoadedModel",
    "Prediction",
    "RunFolder",
    "Similar",
    "Together",
    "create_model",
    "evaluate",
    "evaluate_features",
    "features",
    "fit",
    "list_models",
    "load_model",
    "predict",
    "similar",
]

log = logging.getLogger(__name__)
AnyPath = str | os.PathLike[str]


def __getattr__(name: str) -> Any:
    """Import the type of a result on first use: who loads a model need not wait for what trains."""
    if name not in {"Evaluation", "Similar", "Together"}:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from vtrain.run.evaluate import Evaluation
    from vtrain.run.similar import Similar
    from vtrain.run.together import Together

    return {"Evaluation": Evaluation, "Similar": Similar, "Together": Together}[name]


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
    ckpt: AnyPath | Iterable[AnyPath] | None = None,
    *,
    split: str | None = None,
    average: int | None = None,
    tta: Views | None = None,
    **overrides: Any,
) -> "Evaluation":
    """Evaluate a trained model on the images it was trained for, or on others.

    Args:
        ckpt: A checkpoint, a run, its folder, or an ONNX file; None: the newest finished run.
            Several are asked together: the mean of their probabilities.
        split: `train`, `val` or `test`; `val` unless given, and of other images that have no `val`
            their `test`, else all.
        average: The mean of the weights of so many of the run's newest checkpoints is evaluated.
        tta: `flip` or `five-crop`: several views of each image, the mean of their probabilities.
        overrides: As `fit` takes them: `data={"root": "other_photos"}`.

    Returns:
        `metrics` by name, accuracies as fractions; `predictions`: what the model says of each
        image; `to_dict()`: what `vtrain eval --json` prints. With `tta`, and of several models, a
        `Together`, which also has `members` and the `gain` over the best of them, or over the image
        as it is.

    Raises:
        ConfigError: An argument would be ignored, or is out of range.
        VtrainError: The checkpoint or the images cannot be used.

    Examples:
        >>> import vtrain
        >>> runs = [
        ...     vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3}, seed=seed)
        ...     for seed in (1, 2)
        ... ]
        >>> evaluation = vtrain.evaluate(runs[0])
        >>> evaluation.metrics["val/top1"] == runs[0].read_summary()["final"]["val/top1"]
        True
        >>> len(evaluation.predictions.classes)
        10
        >>> both = vtrain.evaluate(runs)
        >>> len(both.members)
        2
        >>> vtrain.evaluate(runs[0], tta="flip").gain.images == len(evaluation.predictions.targets)
        True
    """
    from vtrain.run.evaluate import evaluate_checkpoint
    from vtrain.run.evaluated import split_name
    from vtrain.run.logs import shown
    from vtrain.run.together import evaluate_together

    _at_least(1, average=average)
    _known_views(tta)
    with shown():
        paths, part = _paths(ckpt), None if split is None else split_name(split)
        if tta is None and len(paths) < 2:
            return evaluate_checkpoint(next(iter(paths), None), _typed(overrides), part, average)
        _refuse("beside tta, or of several models", average=average)
        return evaluate_together(paths, _typed(overrides), part, tta)


def evaluate_features(
    ckpt: AnyPath | None = None,
    *,
    config: AnyPath | None = None,
    knn: bool = True,
    linear_probe: bool = True,
    k: int | None = None,
    temperature: float | None = None,
    split: str | None = None,
    **overrides: Any,
) -> dict[str, float]:
    """Tell how good a model's features are, without its head and without training it.

    Images are classified by the features of the dataset's training images, whose classes need not
    be the model's.

    Args:
        ckpt: A checkpoint, a run or its folder; None: the newest finished run.
        config: In place of `ckpt`: the weights that the training of this config would start from.
        knn: Ask the nearest training images by cosine, as DINO does.
        linear_probe: Ask a logistic regression on the training images.
        k: Neighbours that vote; 20 unless given.
        temperature: Of their votes; 0.07 unless given.
        split: As `evaluate` takes it.
        overrides: As `fit` takes them: `data={"root": "other_photos"}`.

    Returns:
        `knn/top1`, `probe/top1`, their `top5` where there are more than five classes, as fractions,
        and `probe/l2`.

    Raises:
        ConfigError: An argument would be ignored, is out of range, or nothing is asked.
        VtrainError: The model or the images cannot be used.

    Examples:
        >>> import vtrain
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> figures = vtrain.evaluate_features(run, linear_probe=False, k=5)
        >>> sorted(figures)
        ['knn/top1', 'knn/top5']
        >>> figures["knn/top1"] > 0.1  # chance, of ten classes
        True
    """
    from vtrain.run.evaluated import split_name
    from vtrain.run.frozen import Order, evaluate_frozen
    from vtrain.run.logs import shown

    if not knn:
        _refuse("without knn", k=k, temperature=temperature)
    if config is not None:
        _refuse("beside config", ckpt=ckpt)
    _at_least(1, k=k)
    _at_least(1e-4, temperature=temperature)
    given = {"k": k, "temperature": temperature}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with shown():
        order = Order(knn=knn, linear_probe=linear_probe, **chosen)
        part = None if split is None else split_name(split)
        start = None if config is None else Path(config)
        path = None if ckpt is None else Path(ckpt)
        return evaluate_frozen(path, start, _typed(overrides), part, order)


def predict(
    images: AnyPath | Iterable[AnyPath],
    ckpt: AnyPath | Iterable[AnyPath] | None = None,
    *,
    top_k: int | None = None,
    reject: float | None = None,
    conformal: float | None = None,
    tta: Views | None = None,
    threshold: float | None = None,
) -> list[Prediction]:
    """Name the classes of images.

    Args:
        images: A file, a folder (searched recursively) or a glob, or several of them.
        ckpt: A checkpoint, a run, its folder, or an ONNX file; None: the newest finished run.
            Several are asked together: the mean of their probabilities.
        top_k: How many classes to name; 5 unless given, and never more than there are.
        reject: The probability of the likeliest class below which an image is `unsure`.
        conformal: Name as many classes as hold the true one but for this share of images; an image
            is `unsure` unless that is one class.
        tta: `flip` or `five-crop`: several views of each image, the mean of their probabilities.
        threshold: Of a model of several labels: the probability from which on an image has a class,
            in place of each class's own.

    Returns:
        A `Prediction` for each image, in order: `image`, `classes` as (name, probability) from the
        likeliest on, and `error`, which says why an image could not be read. A model of several
        labels names those of at least their thresholds, which may be none.

    Raises:
        ConfigError: An argument would be ignored, or is out of range.
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
        >>> (of_views,) = vtrain.predict("black.png", run, tta="flip")
        >>> of_views.classes[0][0] == best  # black is its own mirror image
        True
    """
    from vtrain.run.logs import shown
    from vtrain.run.predict import predict_images

    _at_least(1, top_k=top_k)
    _at_least(0, most=1, reject=reject, conformal=conformal, threshold=threshold)
    _known_views(tta)
    paths = _paths(ckpt)
    if conformal is not None:
        several = paths[1:] or None
        _refuse("beside conformal", top_k=top_k, reject=reject, tta=tta, several_models=several)
    with shown():
        return list(
            predict_images(_patterns(images), paths, top_k, reject, conformal, tta, threshold)
        )


def features(images: AnyPath | Iterable[AnyPath], ckpt: AnyPath | None = None) -> FeatureFile:
    """Return what a model's head reads of images.

    Args:
        images: A file, a folder (searched recursively) or a glob, or several of them.
        ckpt: A checkpoint, a run or its folder; None: the newest finished run.

    Returns:
        `features` of shape (N, D), float32, and `ids`, the N files. `save("index.npz")` writes what
        `vtrain predict --features` writes. Images that cannot be read are left out, and named on
        stderr.

    Raises:
        DataError: A pattern names no image, or none can be read.
        CheckpointError: There is no usable checkpoint.

    Examples:
        >>> import vtrain
        >>> from PIL import Image
        >>> for name in ("black", "white"):
        ...     Image.new("L", (8, 8), name).save(f"{name}.png")
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> found = vtrain.features(["black.png", "white.png"], run)
        >>> found.features.shape[0] == len(found.ids) == 2
        True
    """
    from vtrain.run.logs import shown
    from vtrain.run.similar import read_features

    with shown():
        file, kept = read_features(_patterns(images), None if ckpt is None else Path(ckpt))
        for one in kept:
            if one.error is not None:
                log.warning("%s is left out: %s", printable(one.image), one.error)
        return file


def similar(
    images: AnyPath | Iterable[AnyPath],
    index: AnyPath | FeatureFile,
    ckpt: AnyPath | None = None,
    *,
    top_k: int | None = None,
) -> "list[Similar]":
    """Name the images of an index that are most like each image.

    Args:
        images: A file, a folder (searched recursively) or a glob, or several of them.
        index: What `features` returned, or a file of it.
        ckpt: The model of the index; None: the newest finished run.
        top_k: How many to name; 5 unless given, and never more than there are.

    Returns:
        A `Similar` for each image, in order: `image`, `nearest` from the most alike on, each with
        `image`, `similarity` (the cosine, -1 to 1) and `label`, and `error`, which says why an
        image could not be read.

    Raises:
        ConfigError: `top_k` is out of range.
        DataError: A pattern names no image.
        CheckpointError: There is no usable checkpoint or index, or it is of another model.

    Examples:
        >>> import vtrain
        >>> from PIL import Image
        >>> for name in ("black", "grey", "white"):
        ...     Image.new("L", (8, 8), name).save(f"{name}.png")
        >>> run = vtrain.fit("vit_digits", model={"depth": 1}, train={"max_steps": 3})
        >>> index = vtrain.features("*.png", run)
        >>> (found,) = vtrain.similar("grey.png", index, run, top_k=2)
        >>> [one.image for one in found.nearest][0]
        'grey.png'
    """
    from vtrain.run.logs import shown
    from vtrain.run.similar import similar_images

    _at_least(1, top_k=top_k)
    place = index if isinstance(index, FeatureFile) else Path(index)
    with shown():
        path = None if ckpt is None else Path(ckpt)
        return list(similar_images(_patterns(images), path, place, top_k))


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


def _patterns(images: AnyPath | Iterable[AnyPath]) -> list[str]:
    """Return one name or several as a command line has them."""
    patterns = [images] if isinstance(images, str | os.PathLike) else list(images)
    if not patterns:
        raise ConfigError("there are no images to ask about", "images", "name a file or a folder")
    return [os.fspath(pattern) for pattern in patterns]


def _paths(ckpt: AnyPath | Iterable[AnyPath] | None) -> list[Path]:
    """Return the checkpoints that are named: none, one or several."""
    if ckpt is None:
        return []
    paths = [ckpt] if isinstance(ckpt, str | os.PathLike) else list(ckpt)
    if not paths:
        raise ConfigError("there are no checkpoints", "ckpt", "name one, or leave it out")
    return [Path(path) for path in paths]


def _refuse(where: str, **arguments: Any) -> None:
    """Refuse an argument that is given and would be ignored, as the command does."""
    for name, value in arguments.items():
        if value is not None:
            raise ConfigError(f"{name} has no effect {where}", name, "leave one of them out")


def _at_least(least: float, *, most: float = math.inf, **arguments: float | None) -> None:
    for name, value in arguments.items():
        if value is not None and not least <= value <= most:
            hint = f"at least {least:g}" + ("" if most == math.inf else f", and at most {most:g}")
            raise ConfigError(f"{name} is {value}", name, hint)


def _known_views(tta: str | None) -> None:
    if tta is not None and tta not in NAMES:
        hint = f"choose {' or '.join(NAMES)}"
        raise ConfigError(f"{tta!r} are no views of an image", "tta", hint)


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
