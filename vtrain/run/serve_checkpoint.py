"""A checkpoint as what is served: asked as `predict` asks, explained as `explain` does."""

import io
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock

import torch
from PIL import Image

from vtrain.config import Config, load_config, stored_config
from vtrain.data.geometry import in_channels
from vtrain.data.labels import label_text
from vtrain.data.loading.batches import Batch
from vtrain.data.preprocess import Preprocess
from vtrain.device import autocast, choose_device, choose_precision
from vtrain.errors import ConfigError, VtrainError
from vtrain.explain.draw import flatness
from vtrain.explain.methods import METHODS, Request
from vtrain.explain.small import coloured
from vtrain.files.runs import RunFolder
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.outputs import NO_TARGET, outputs_of
from vtrain.models.profile import count_parameters
from vtrain.registry import suggest
from vtrain.report.facts import RunFacts
from vtrain.report.gallery import Example, most_typical, right_but_unsure, sure_and_wrong
from vtrain.report.predictions import Predictions
from vtrain.report.thumbnails import ReadImage, thumbnail
from vtrain.run.calibrate import predictions_beside
from vtrain.run.explain_question import Question, finite_logits, method_of, targets_of
from vtrain.run.run_facts import image_reader
from vtrain.run.thresholds import refuse_without_meaning
from vtrain.serve.served import Array, Explanation, Served, Shown

log = logging.getLogger(__name__)
EXAMPLES = 4
"""Images of each gallery that the page offers."""
PICTURE = 256
"""Pixels of the longer side of a map's picture."""
METRICS = {
    "val/top1": "Accuracy",
    "val/top5": "Top-5 accuracy",
    "val/map": "Mean average precision",
    "val/f1": "Mean F1",
}


def served_checkpoint(ckpt: Path, reject: float | None) -> Served:
    """Load a checkpoint or the best of a run, with what its folder says of it.

    Raises:
        CheckpointError: It cannot be used.
    """
    loaded = load_model(ckpt, choose_device("auto"))
    config = stored_config(loaded.checkpoint, loaded.path)
    dataset = dataset_of(config)
    refuse_without_meaning(loaded.task.thresholds, reject=reject)
    return Served(
        f"{loaded.checkpoint.model.name} on {dataset}",
        loaded.classes,
        lambda image: loaded.geometry(image).numpy(),
        Asked(loaded, config.train.precision),
        partial(explained, loaded),
        reject,
        loaded.task.thresholds,
        facts_of(loaded, dataset),
        examples_of(loaded),
    )


class Asked:
    """Asks a model as `predict` does, at the precision of its run.

    Shape: (B, C, S, S) uint8 -> (B, K) float32, probabilities.
    """

    def __init__(self, loaded: LoadedModel, precision: str) -> None:
        precision = choose_precision(precision, loaded.device)
        self.loaded, self.autocast = loaded, partial(autocast, loaded.device, precision)

    def __call__(self, images: Array) -> Array:
        count, device = len(images), self.loaded.device
        targets = torch.full((count,), NO_TARGET, device=device)
        pixels = torch.from_numpy(images).to(device)
        batch = Batch(pixels, targets, torch.arange(count), 0, count)
        normalise = self.loaded.geometry.normalise
        (output,) = outputs_of(self.loaded.model, [batch], normalise, self.autocast)
        probabilities: Array = self.loaded.task.probabilities(output.logits).cpu().numpy()
        return probabilities


def explained(
    loaded: LoadedModel,
    image: Image.Image,
    method: str | None,
    target: str | None,
    which: str | None = None,
) -> Explanation:
    """Explain an image as `vtrain explain` does: one map of one class, the first unless asked for.

    Raises:
        ConfigError: There is no such method or map, or the method does not look at a class that is
            given.
        CheckpointError: The model's logits are not finite.
    """
    if method is not None and method not in METHODS:
        what = f"there is no method '{method[:80]}'"
        raise ConfigError(what, "method", suggest(method, list(METHODS)))
    question = Question(method or "auto", () if target is None else (target,))
    name = method_of(loaded, question)
    images = loaded.geometry.normalise(loaded.geometry(image)[None].to(loaded.device))
    logits = finite_logits(loaded, images)
    targets = targets_of(loaded, logits, question.targets)  # (1, 1)
    maps = {one.name: one for one in METHODS[name].function(loaded.model, images, Request(targets))}
    one = maps.get(next(iter(maps)) if which is None else which)
    if one is None:
        what = f"{name} has no map '{which[:80]}'" if which else f"{name} has no map without a name"
        raise ConfigError(what, "map", suggest(which or "", list(maps)))
    values: Array = one.values[0].float().cpu().numpy()
    box = loaded.geometry.seen_box(image.size)
    return Explanation(
        method=name,
        target=None if one.target is None else loaded.classes[int(targets[0, one.target])],
        name=one.name,
        names=tuple(maps),
        values=values,
        box=box,
        size=image.size,
        flat=flatness(values),
        picture=picture(values, box),
    )


def picture(values: Array, box: tuple[float, float, float, float]) -> bytes:
    """Return a map in colours, as a PNG of the proportions of its box. Shape: (rows, columns)."""
    left, top, right, bottom = box
    scale = PICTURE / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    buffer = io.BytesIO()
    coloured(values, size).save(buffer, "PNG")
    return buffer.getvalue()


def dataset_of(config: Config) -> str:
    """Return what to call the images: of somebody's own folder its name, but not where it is."""
    root = getattr(config.data, "root", None) if config.data.name == "image_folder" else None
    return root.name if isinstance(root, Path) and root.name else config.data.name


def facts_of(loaded: LoadedModel, dataset: str) -> list[tuple[str, str]]:
    """Return the model card's lines; no path of this machine is among them."""
    checkpoint, size = loaded.checkpoint, loaded.geometry.image_size
    parameters = f"{count_parameters(loaded.model):,} parameters"
    facts = [
        ("Model", f"{checkpoint.model.name} at {size} x {size} pixels, {parameters}"),
        ("Classes", f"{len(loaded.classes):,}"),
        ("Trained on", dataset),
        ("Trained with", f"vtrain {checkpoint.vtrain}"),
    ]
    for key, name in METRICS.items():
        # Of few classes the likeliest five are all.
        if key in checkpoint.metrics and (key != "val/top5" or len(loaded.classes) > 5):
            share = f"{checkpoint.metrics[key]:.1%}"
            value = f"{share} {'on' if loaded.task.thresholds else 'of'} its validation images"
            facts.append((name, value))
    return facts


def examples_of(loaded: LoadedModel) -> list[Shown]:
    """Return some of the images that the run was evaluated on, if it kept what it said of them."""
    folder = loaded.path.parent
    try:
        predictions = predictions_beside(loaded)
        config = load_config(RunFolder(folder).config)
        facts = RunFacts("", str(folder), config.model_dump(mode="json"))
        read = image_reader(facts, predictions)
    except VtrainError as error:
        log.debug("no examples: %s", error)
        return []
    if read is None:
        return []
    lock = Lock()  # not every dataset can be read by two threads

    def seen(index: int) -> Image.Image:
        with lock:
            return as_seen(read(index), loaded.geometry)

    found = (_shown(index, caption, seen) for index, caption in _captions(predictions).items())
    return [shown for shown in found if shown is not None]


def as_seen(image: Image.Image, geometry: Preprocess) -> Image.Image:
    """Return an image of 8 bits that is to a model what `image` is.

    A file of it that is read again says no more what its black and white were, nor its colours.

    Raises:
        DataError: It has not as many channels as the model.
    """
    return in_channels(image, geometry.channels, geometry.value_range, geometry.icc)


def _captions(predictions: Predictions) -> dict[int, str]:
    """Choose some images, each once, though it may be in two galleries, and say what is on them."""
    if predictions.has_several:
        spread = range(0, len(predictions.ids), -(-len(predictions.ids) // (3 * EXAMPLES)))
        return {index: _labels(predictions, index) for index in spread}
    scores = predictions.scores()
    chosen = [
        *sure_and_wrong(scores, EXAMPLES),
        *most_typical(scores, range(min(EXAMPLES, scores.num_classes)), 1),
        *right_but_unsure(scores, EXAMPLES),
    ]
    return {example.index: _caption(example, predictions.classes) for example in chosen}


def _caption(example: Example, names: Sequence[str]) -> str:
    said, probability = example.likeliest[0]
    if said == example.true:
        return f"{names[example.true]} ({probability:.0%})"
    return f"{names[example.true]}, taken for {names[said]} ({probability:.0%})"


def _labels(predictions: Predictions, index: int) -> str:
    return label_text(torch.from_numpy(predictions.targets[index]), predictions.classes)


def _shown(index: int, caption: str, read: ReadImage) -> Shown | None:
    try:
        return Shown(caption, thumbnail(read(index)), partial(read, index))
    except VtrainError:  # moved or deleted since
        return None
