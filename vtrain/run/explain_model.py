"""`vtrain explain --model` and `--faithfulness`: what was learnt, and what maps are worth."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtrain.data.loading.batches import Batch
from vtrain.data.normalise import to_image
from vtrain.data.progress import Progress
from vtrain.device import choose_device
from vtrain.errors import ConfigError, DataError
from vtrain.explain.faithful import KINDS, ORDERS, Trust, sentences, trust
from vtrain.explain.learnt import Section, page, sections_of, similarity_section
from vtrain.explain.methods import images_at_once
from vtrain.explain.similarity import FEWEST
from vtrain.files.atomic import write_json, write_text
from vtrain.inference.loaded import LoadedModel, load_model, untrained_like
from vtrain.inference.outputs import batches_of_files
from vtrain.run.evaluate import prepare
from vtrain.run.explain import opened_folder
from vtrain.run.explain_question import Question, method_of
from vtrain.run.find_images import find_images
from vtrain.run.predict import newest_checkpoint

log = logging.getLogger(__name__)
IMAGES = 128
"""Of the validation images, where none are named; as many as in figure 7 of arXiv:2010.11929."""
MAPS = 200
"""Validation images that maps are judged on, where none are named."""


@dataclass(frozen=True)
class Findings:
    """What was written, and what to say of it."""

    folder: Path
    data: dict[str, Any]
    lines: list[str]


def explain_model(
    patterns: list[str],
    ckpt: Path | None,
    against: Path | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Findings:
    """Write `model.html` and `model.json`: what the model learnt, beside another one if given.

    It is shown the images that the patterns name, by default validation images of its run.

    Raises:
        DataError: There are fewer than four readable images.
        CheckpointError: There is no usable checkpoint.
        StorageError: The folder holds something already, and `force` is not given.
    """
    loaded = load_model(ckpt or newest_checkpoint(), choose_device("auto"))
    other = None if against is None else load_model(against, choose_device("auto"))
    if other is not None:
        refuse_other_channels(loaded, other)
    with opened_folder(output, force) as folder:
        models = [loaded] if other is None else [loaded, other]
        # One size for both: similarity compares what two models say of the same batch.
        at_once = max(8, min(at_once_of(one) for one in models))
        images = [images_of(one, loaded, patterns, at_once, IMAGES, FEWEST) for one in models]
        first = next(iter(images[0]()), None)
        if first is None:
            what = f"fewer than {FEWEST} readable images"
            raise DataError(what, patterns[0] if patterns else None, "name more of them")
        seen = to_image(loaded.geometry.denormalise(first[:1])[0].cpu())
        photograph = np.asarray(seen.convert("RGB"))
        name = str(loaded.path)
        sections = sections_of(loaded.model, images[0], photograph)
        compared = [
            (str(m.path), m.model, batches) for m, batches in zip(models, images, strict=True)
        ]
        sections += [similarity_section(compared[0], one) for one in compared]
        count = sum(len(batch) for batch in images[0]())
        about = f"{loaded.checkpoint.model.name}, on {count} images"
        write_text(folder / "model.html", page(f"What {name} learnt", about, sections))
        data = {"checkpoint": name, "images": count} | {one.key: one.data for one in sections}
        write_json(folder / "model.json", data)
        return Findings(folder, data, summary(sections))


def refuse_other_channels(loaded: LoadedModel, other: LoadedModel) -> None:
    """Refuse two models of which one cannot see what the other does; grey is made of colours.

    Raises:
        ConfigError: It says how many channels each has.
    """
    channels = {loaded.geometry.channels, other.geometry.channels}
    if len(channels) > 1 and not channels <= {1, 3}:
        few, many = sorted(channels)
        what = f"the models see images of {few} and of {many} channels, and none is of both"
        raise ConfigError(what, "--against", "compare models of the same images")


def summary(sections: list[Section]) -> list[str]:
    """Return the figures that fit a screen: the reach of each layer's heads."""
    lines = ["mean attention distance in pixels: lowest and highest head, uniform attention"]
    for layer in next(one.data for one in sections if one.key == "attention_reach"):
        heads = layer["renormalised"]
        lines.append(
            f"  {layer['module']:24} {min(heads):7.1f} {max(heads):7.1f}  {layer['uniform']:7.1f}"
        )
    return lines


def judge_maps(
    patterns: list[str],
    ckpt: Path | None,
    question: Question,
    output: Path | None = None,
    force: bool = False,
) -> Findings:
    """Write `faithfulness.json`: whether a method's maps beat a random order and no training.

    Raises:
        DataError: No image could be read.
        CheckpointError: There is no usable checkpoint.
        ConfigError: A class, a block or a head does not exist, or the method does not look at it.
        StorageError: The folder holds something already, and `force` is not given.
    """
    loaded = load_model(ckpt or newest_checkpoint(), choose_device("auto"))
    if loaded.task.thresholds:
        what = "--faithfulness judges by the likeliest class, and this model names several labels"
        raise ConfigError(what, loaded.path, "leave it out")
    method = method_of(loaded, question)
    with opened_folder(output, force) as folder:
        untrained = untrained_like(loaded)
        images = images_of(loaded, loaded, patterns, at_once_of(loaded), MAPS)
        measured = trust(
            loaded.model,
            untrained,
            with_targets(loaded, images(), question.targets),
            method,
            question.layer,
            question.head,
        )
        data = facts(measured, method, str(loaded.path))
        write_json(folder / "faithfulness.json", data)
        return Findings(folder, data, [*table(measured), *sentences(measured, method)])


def with_targets(
    loaded: LoadedModel, batches: Iterable[Tensor], names: Iterable[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images with the class to explain, once for each that is named, else the likeliest."""
    numbers = [loaded.classes.index(name) for name in names]
    for images in batches:
        if not numbers:
            with torch.no_grad():
                likeliest = loaded.model(images).argmax(1)
            yield images, likeliest
        for number in numbers:
            yield images, torch.full((len(images),), number, device=images.device)


def facts(measured: Trust, method: str, checkpoint: str) -> dict[str, Any]:
    """Return all figures as plain data."""
    areas = {
        kind: {order: float(measured.areas(kind, order).mean()) for order in ORDERS}
        for kind in KINDS
    }
    gains = {kind: {over: list(measured.gain(kind, over)) for over in ORDERS[1:]} for kind in KINDS}
    curves = {
        kind: {order: measured.curves[kind, order].mean(0).tolist() for order in ORDERS}
        for kind in KINDS
    }
    return {
        "method": method,
        "checkpoint": checkpoint,
        "images": measured.images,
        "area": areas,
        "gain": gains,
        "curve": curves,
        "verdict": list(sentences(measured, method)),
    }


def table(measured: Trust) -> list[str]:
    """Return the areas as lines of text."""
    better = {"deletion": "lower", "insertion": "higher", "positive": "lower", "negative": "higher"}
    lines = [f"{'area under the curve':22}" + "".join(f"{order:>11}" for order in ORDERS)]
    for kind in KINDS:
        areas = "".join(f"{measured.areas(kind, order).mean():11.3f}" for order in ORDERS)
        lines.append(f"{f'{kind} ({better[kind]})':22}{areas}")
    return lines


def at_once_of(loaded: LoadedModel) -> int:
    """Return how many images are looked at together."""
    size = loaded.geometry.image_size
    return images_at_once(loaded.model, size, size)


def images_of(
    loaded: LoadedModel,
    source: LoadedModel,
    patterns: list[str],
    at_once: int,
    count: int,
    fewest: int = 1,
) -> Callable[[], Iterator[Tensor]]:
    """Return what yields images as a model sees them, the same each time, `fewest` in each batch.

    They are those that the patterns name, or `count` validation images of the run of `source`.
    """
    geometry = loaded.geometry
    batches_of, total = (
        _named_batches(loaded, patterns, at_once)
        if patterns
        else _validation_batches(loaded, source, at_once, count)
    )

    def images() -> Iterator[Tensor]:
        with Progress("looking at", "images", total) as bar:
            for batch in batches_of():
                if len(batch.images) >= fewest:
                    yield geometry.normalise(batch.images)
                bar.add(len(batch.images))

    return images


Batches = Callable[[], Iterable[Batch]]
"""Makes the batches anew each time, as an iterator is used up after one look at them."""


def _named_batches(loaded: LoadedModel, patterns: list[str], at_once: int) -> tuple[Batches, int]:
    """Return the batches of the files that patterns name, and how many files they are."""
    paths, device = find_images(patterns), choose_device("auto")

    said: set[int] = set()

    def unread(number: int, error: DataError) -> None:
        if number not in said:  # the images are looked at several times
            log.warning("left out: %s", error)
        said.add(number)

    return partial(batches_of_files, paths, loaded.geometry, device, unread, at_once), len(paths)


def _validation_batches(
    loaded: LoadedModel, source: LoadedModel, at_once: int, count: int
) -> tuple[Batches, int]:
    """Return the batches of up to `count` validation images of a run, and how many they are."""
    # The images of one run, prepared as the other model was trained to see them.
    subject = prepare(
        replace(source, geometry=loaded.geometry),
        (f"train.eval_batch_size={at_once}", "train.device=auto"),
        "val",
    )
    samples = subject.sampled(count)
    return subject.loader_of(samples).batches, len(samples)
