"""What came of a run: what its best weights say of the held-out images, its last of the others."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from vtrain.data.datasets.samples import Samples, subset
from vtrain.data.loading.loader import EvalLoader
from vtrain.device import naming_failures
from vtrain.errors import VtrainError
from vtrain.files.runs import RunFolder
from vtrain.inference.loaded import load_model
from vtrain.inference.outputs import Outputs, outputs_of
from vtrain.registry import bind
from vtrain.report.predictions import Predictions
from vtrain.run.build.parts import Parts
from vtrain.run.predictions import keep, predictions_of
from vtrain.run.text.command import argument

log = logging.getLogger(__name__)

SAMPLE = 512
"""Training images that are looked at once more, as those of the validation are."""


@dataclass(frozen=True)
class Judgement:
    """What came of a run."""

    best: Predictions
    """What the best checkpoint says of the held-out images."""
    known_right: int
    """Of `known` training images, not augmented, those of which the last weights are right."""
    known: int


def judge(parts: Parts, run: RunFolder) -> Judgement | None:
    """Leave behind what the best checkpoint says of the validation images; look at the training's.

    Returns:
        The findings, or None where there is too little memory or a file can no longer be read: a
        run that is finished needs none of it.
    """
    hint = f"`vtrain eval --ckpt {argument(run.path)}` writes them"
    try:
        with naming_failures("a second model for the predictions", hint):
            loaded = load_model(run.checkpoint, parts.plan.device)
            outputs = _outputs(parts, loaded.model, parts.val_loader)
            predictions = predictions_of(outputs, parts.val, loaded, "val")
        if predictions is None:
            return None
        keep(predictions, run.path)
    except VtrainError as error:
        log.warning("there are no predictions; %s: %s", hint, error)
        return None
    try:
        return Judgement(predictions, *_known(parts))
    except VtrainError as error:
        log.warning("the run is not judged, as training images cannot be read again: %s", error)
        return None


def _outputs(parts: Parts, model: nn.Module, loader: EvalLoader) -> Sequence[Outputs]:
    normalise = parts.preprocess.normalise
    return list(outputs_of(model, loader.batches(), normalise, parts.autocast))


def _known(parts: Parts) -> tuple[int, int]:
    """Return how many of some training images are named rightly, and how many were looked at.

    By the last weights: the best ones may be of an epoch before the model learnt much by heart.
    """
    plan, ema = parts.plan, parts.state.ema
    samples = sample_of(plan.train, parts.train_loader.decoded.unreadable.left_out)
    unused = parts.train_loader.decoded.unused  # they were trained on, and it has been said
    loader = bind(EvalLoader, plan.config.data)(
        samples, parts.preprocess, plan.eval_batch_size, plan.rank, plan.device, unused
    )
    try:
        with ema.swapped_into(parts.model) if ema is not None else nullcontext():
            outputs = _outputs(parts, parts.model, loader)
    finally:
        loader.close()
    is_right = parts.task.is_right
    right = sum(int(is_right(output.logits, output.targets).sum()) for output in outputs)
    return right, sum(len(output.targets) for output in outputs)


def sample_of(samples: Samples, left_out: set[int], most: int = SAMPLE) -> Samples:
    """Return up to `most` samples, evenly spread, without those that could not be read."""
    readable = torch.tensor([i for i in range(len(samples)) if i not in left_out])
    return subset(samples, readable[:: -(-len(readable) // most)])
