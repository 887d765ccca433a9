"""What a model's heads read of images, for whatever is made of it without training the model.

B images of a batch, N of all, D features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.errors import CheckpointError, DataError
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.outputs import outputs_of
from vtrain.models.base import ImageClassifier


class Read(NamedTuple):
    """What the heads read of some images.

    Shape: `features` (B, D) float32, `targets` (B,) int64, `indices` (B,) int64: which samples. All
    are on the CPU.
    """

    features: Tensor
    targets: Tensor
    indices: Tensor


@contextmanager
def pre_logits(model: ImageClassifier) -> Iterator[list[Tensor]]:
    """Collect what the heads are given in each call of the model; of two heads it is the mean.

    Yields a list that grows by (B, D) float32 with each call.

    Raises:
        CheckpointError: It is an exported file, which shows no features.
    """
    groups = model.depth_groups()
    heads = [
        module
        for name, module in model.named_modules()
        if groups and name.split(".")[0] in groups[-1] and isinstance(module, nn.Linear)
    ]
    if not heads:
        raise CheckpointError("an exported file has logits and no features", hint="name its run")
    kept: list[Tensor] = []
    given: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor]) -> None:
        given.append(arguments[0].detach().float())
        if len(given) == len(heads):
            kept.append(torch.stack(given).mean(0))
            given.clear()

    with ExitStack() as stack:
        for head in heads:
            stack.callback(head.register_forward_pre_hook(keep).remove)
        yield kept


def features_of(
    loaded: LoadedModel,
    batches: Iterable[Batch],
    autocast: Callable[[], AbstractContextManager[None]],
) -> Iterator[Read]:
    """Yield what a model's heads read of each batch, in order; `outputs_of` explains the arguments.

    Raises:
        CheckpointError: It is not finite, or there is nothing to read.
    """
    model, normalise = loaded.model, loaded.geometry.normalise
    try:
        with pre_logits(model) as kept:
            for one in outputs_of(model, batches, normalise, autocast):
                # Off the device batch by batch, which may not hold the features of all images.
                features = kept.pop().cpu()
                if not features.isfinite().all():
                    raise CheckpointError("the model's features are not finite")
                yield Read(features, one.targets.cpu(), one.indices)
    except CheckpointError as error:
        error.where = error.where or loaded.path
        raise


def gathered(reads: Iterable[Read], count: int) -> Read:
    """Return what was read of up to `count` images as one, which is never held twice.

    Raises:
        DataError: There is no image.
    """
    whole, n = None, 0
    for read in reads:
        if whole is None:
            features = torch.empty(count, read.features.shape[1])
            whole = Read(features, *torch.empty((2, count), dtype=torch.int64))
        end = n + len(read.features)
        for part, tensor in zip(whole, read, strict=True):
            part[n:end] = tensor
        n = end
    if whole is None:
        raise DataError("there is no image to read features of")
    return Read(*(part[:n] for part in whole))  # fewer where images could not be read
