"""Refuse a model that this machine cannot hold before any memory is taken for it."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vtrain.models.base import ImageClassifier
from vtrain.resources import machine_memory

GB = 1e9
LARGE = 512
"""Pixels per side up to which one image fits everywhere, so that no layer is measured."""


def check_fits_memory(build: Callable[[], ImageClassifier]) -> ImageClassifier:
    """Build a model without data on the meta device, and see whether memory can hold it.

    Only what surely fails is refused: weights and tables that are larger than all memory, or, of
    a large image, the largest that a layer returns, in 16 bits.

    Raises:
        ValueError: The model is too large; the message gives both sizes.
    """
    try:
        with torch.device("meta"):
            model = build()
            size = sum(t.nbytes for t in itertools.chain(model.parameters(), model.buffers()))
            check_bytes("its weights and tables", size)
            # Only large images: the run that measures the layers takes a second.
            if model.image_size > LARGE:
                check_bytes("a layer of one image", 2 * largest_output(model))
    except (RuntimeError, TypeError, OverflowError) as error:  # a size beyond 64 bits
        raise ValueError("the model is larger than any memory; make it smaller") from error
    return model


def check_bytes(what: str, size: int) -> None:
    """Refuse what is larger than all of this machine's memory."""
    memory = machine_memory()
    if size > memory:
        raise ValueError(
            f"the model is too large: {what} would take {size / GB:,.0f} GB, and this machine has "
            f"{memory / GB:,.0f} GB"
        )


def largest_output(model: ImageClassifier) -> int:
    """Return the most numbers that a layer of a model on the meta device returns for one image."""
    largest = 0

    def record(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        sizes = [leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        largest = max(largest, *sizes, 0)

    # Every module, blocks too: the largest tensor may be inside any of them.
    hooks = [module.register_forward_hook(record) for module in model.modules()]
    size = model.image_size
    with torch.no_grad():
        model(torch.empty(1, model.in_channels, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return largest
