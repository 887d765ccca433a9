"""The maps of a report: what the run's model looked at on the images of the galleries."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vtrain.data.progress import Progress
from vtrain.device import choose_device
from vtrain.errors import VtrainError
from vtrain.explain.methods import METHODS, Request, automatic, images_at_once
from vtrain.explain.small import overlaid
from vtrain.files.images import rgb
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.models.profile import count_macs
from vtrain.report.predictions import Predictions
from vtrain.report.thumbnails import SIDE, Maps, ReadImage, thumbnail
from vtrain.run.text.command import at_step

log = logging.getLogger(__name__)
MOST_GMACS = 1000.0
"""Of the images that are explained, in all: about a hundred of 10 GMACs, fewer of larger models."""


def gallery_maps(
    path: Path, predictions: Predictions, indices: Sequence[int], read: ReadImage
) -> Maps:
    """Draw maps of as many images, the first of them, as take no longer than a report may.

    Args:
        path: The run's folder.
        predictions: What the run's checkpoint said; maps of another one would explain nothing.
        indices: Of the predictions' images.
        read: Gives an image.
    """
    try:
        loaded = load_model(path, choose_device("auto"))
    except VtrainError as error:  # half-finished, or cleaned up
        return Maps(missing=f"the checkpoint cannot be used: {error.what}")
    step = loaded.checkpoint.state.get("step")  # None of weights that no training goes on from
    if predictions.about.get("step") != step or predictions.classes != loaded.classes:
        return Maps(
            missing=f"the predictions are not of the checkpoint, which is of {at_step(step)}"
        )
    wanted = list(dict.fromkeys(indices))
    chosen = wanted[: int(MOST_GMACS * 1e9 / max(1, count_macs(loaded.model)))]
    size = loaded.geometry.image_size
    method = automatic(loaded.model.attention_layout(size, size), targeted=False)
    return Maps(method, dict(_pictures(loaded, method, chosen, read)), len(chosen) < len(wanted))


def _pictures(
    loaded: LoadedModel, method: str, indices: list[int], read: ReadImage
) -> Iterator[tuple[int, str]]:
    """Yield the number of each image that can be read, and its map as a data URI."""
    size, geometry = loaded.geometry.image_size, loaded.geometry
    images_read, at_once = _images(indices, read), images_at_once(loaded.model, size, size)
    with Progress("explaining images of the galleries", "images", len(indices)) as progress:
        while some := list(islice(images_read, at_once)):
            inputs = torch.stack([geometry(image) for _, image in some])
            images = geometry.normalise(inputs.to(loaded.device))
            nobody = torch.zeros(len(some), 0, dtype=torch.int64)  # the method knows no class
            # Of several maps the first is that of all tokens which the heads read.
            values: Any = METHODS[method].function(loaded.model, images, Request(nobody))[0].values
            for (index, image), one in zip(some, values.float().cpu().numpy(), strict=True):
                drawn = overlaid(image, geometry.seen_box(image.size), one, SIDE)
                yield index, thumbnail(drawn)
            progress.add(len(some))


def _images(indices: list[int], read: ReadImage) -> Iterator[tuple[int, Image.Image]]:
    for index in indices:
        try:
            yield index, rgb(read(index))
        except VtrainError as error:  # moved or deleted since: the page says so in its place
            log.info("no map: %s", error)
