"""Validation images with what the model looks at on them, while it is trained."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from vtrain.config import Config
from vtrain.data.datasets.samples import subset
from vtrain.data.datasets.stratified import stratified_sample
from vtrain.data.labels import label_text, strata
from vtrain.data.loading.batches import Batch
from vtrain.data.loading.loader import EvalLoader
from vtrain.data.normalise import to_image
from vtrain.device import naming_failures
from vtrain.distributed import Rank
from vtrain.errors import ConfigError
from vtrain.files.images import decode_image
from vtrain.inference.outputs import outputs_of
from vtrain.registry import bind
from vtrain.run.build.parts import Parts

if TYPE_CHECKING:
    from vtrain.explain.draw import Subject


def check_maps(config: Config) -> None:
    """Refuse maps that nobody would see, and those of a model of which no process has the whole.

    Raises:
        ConfigError: It says which.
    """
    if not config.logging.explain:
        return
    if not config.logging.tensorboard:
        what = "the maps of logging.explain are shown by TensorBoard, which is off"
        raise ConfigError(what, "logging.explain", "set it to 0, or logging.tensorboard=true")
    if config.train.parallel == "fsdp":
        what = "no process has the whole of a sharded model, whose maps logging.explain asks for"
        raise ConfigError(what, "logging.explain", "set it to 0, or train.parallel=ddp")


class ValidationMaps:
    """Draws the same validation images each time, of all classes if there are as many.

    It is the bare model that looks at them, outside of what is compiled or recorded as a CUDA
    graph: both leave it as it is. Nothing that training depends on is changed or drawn from.
    """

    def __init__(self, parts: Parts, count: int) -> None:
        self.parts, self.count = parts, count

    @cached_property
    def _chosen(self) -> tuple[Tensor, Tensor]:
        """The images (N, C, S, S) uint8 and their classes (N,), on the CPU."""
        parts, config = self.parts, self.parts.plan.config
        chosen = stratified_sample(strata(parts.val.targets), min(self.count, len(parts.val)))
        # So few need no worker, and no cache: they are read once.
        data = config.data.model_copy(update={"num_workers": 0, "cache": "none"})
        samples = subset(parts.val, chosen)
        loader = bind(EvalLoader, data)(samples, parts.preprocess, len(chosen), Rank(), "cpu")
        batches = list(loader.batches())
        images = torch.cat([batch.images for batch in batches])
        return images, torch.cat([batch.targets for batch in batches])

    def draw(self) -> Image.Image:
        """Return a contact sheet: each image under its map, its class and what the model says.

        The weights are those that are evaluated: their average where the run keeps one.
        """
        # matplotlib takes a second to import, which a run without maps need not wait for.
        from vtrain.explain.draw import sheets
        from vtrain.explain.methods import images_at_once

        parts, ema = self.parts, self.parts.state.ema
        at_once = images_at_once(parts.model, *self._chosen[0].shape[2:])
        with (
            naming_failures("logging.explain", "set it to 0"),
            ema.swapped_into(parts.model) if ema is not None else nullcontext(),
        ):
            subjects: list[Subject] = []
            for start in range(0, len(self._chosen[0]), at_once):
                pixels, targets = (one[start : start + at_once] for one in self._chosen)
                subjects += self._subjects(pixels, targets)
            # One is enough: `logging.explain` allows no more images than a sheet holds.
            (sheet,) = sheets(subjects)
        return decode_image(sheet)

    def _subjects(self, pixels: Tensor, targets: Tensor) -> "Iterator[Subject]":
        """Yield what the sheet shows of some images. Shape: (B, C, S, S) uint8, (B,)."""
        from vtrain.explain.draw import Panel, Subject
        from vtrain.explain.methods import METHODS, Request, automatic

        parts, classes = self.parts, self.parts.plan.source.classes
        height, width = pixels.shape[2:]
        batch = Batch(pixels.to(parts.plan.device), targets, targets, 0, len(pixels))
        normalise = parts.preprocess.normalise
        (said,) = outputs_of(parts.model, [batch], normalise, parts.autocast)
        shares, best = (one.tolist() for one in parts.task.probabilities(said.logits).max(1))
        method = automatic(parts.model.attention_layout(height, width), targeted=False)
        # The method knows no class, so that none is asked for.
        request = Request(torch.zeros(len(pixels), 0, dtype=torch.int64))
        first = METHODS[method].function(parts.model, normalise(batch.images), request)[0]
        for i, values in enumerate(first.values.float().cpu().numpy()):
            image = to_image(pixels[i]).convert("RGB")
            box = (0.0, 0.0, float(width), float(height))
            likeliest = [(classes[best[i]], shares[i])]
            name = f"is {label_text(targets[i], classes)}"
            yield Subject(name, image, box, likeliest, [Panel(method, values)])
