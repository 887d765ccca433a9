"""One forward pass with eyes open: attention weights, features and logits, alive in autograd."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtrain.layers.probe import probed
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer, AttentionLayout


@dataclass(frozen=True)
class Recording:
    """What a model computed of a batch.

    Shape: logits (B, K); weights of a layer, by its module, (B * nW, H, n, n), at least fp32, as
    they are in autograd's graph; features of a layer, by their module, (B, n, D).
    """

    layout: AttentionLayout
    logits: Tensor
    weights: dict[str, Tensor]
    features: dict[str, Tensor]

    def per_image(self, rows: Tensor) -> Tensor:
        """Give each image its windows. Shape: (B * nW, ...) -> (B, nW, ...)."""
        return rows.view(len(self.logits), -1, *rows.shape[1:])

    def of(self, layer: AttentionLayer) -> Tensor:
        """Return the weights of a layer. Shape: -> (B, nW, H, n, n)."""
        return self.per_image(self.weights[layer.module])


@contextmanager
def as_it_evaluates(model: ImageClassifier) -> Iterator[None]:
    """Put a model into evaluation mode, without recomputation, and leave it as it was."""
    training, checkpointing = model.training, model.activation_checkpointing
    model.eval()
    model.activation_checkpointing = False  # what is recomputed is no part of the first graph
    try:
        yield
    finally:
        model.train(training)
        model.activation_checkpointing = checkpointing


def layout_of(model: ImageClassifier, images: Tensor) -> AttentionLayout:
    """Return where the tokens lie on these images. Shape: images (B, C, height, width)."""
    return model.attention_layout(images.shape[-2], images.shape[-1])


def record(
    model: ImageClassifier,
    images: Tensor,
    *,
    gradients: bool = False,
    features: Sequence[AttentionLayer] = (),
) -> Recording:
    """Run a model on normalised images and keep what it computed.

    All tokens of the last block are computed, which `forward` may leave out. The pass runs in the
    dtype of the model, without autocast.

    Args:
        model: May be in training mode; it is as it was afterwards.
        images: (B, C, height, width).
        gradients: Keep the graph, to differentiate logits by weights and features.
        features: The layers whose features to keep.
    """
    layout = layout_of(model, images)
    weights: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    modules = {layer.module: model.get_submodule(layer.module) for layer in layout.layers}

    def keep_features(name: str) -> Any:
        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            # Words have a row for each patch, maps two axes of tokens: (B, n, D) in any case.
            kept[name] = output.reshape(len(images), -1, output.shape[-1])
            return kept[name].view(output.shape)  # so that the logits are computed from it

        return hook

    # With a gradient of the images even a frozen model has a graph.
    images = images.detach().requires_grad_(gradients)
    with ExitStack() as stack:
        stack.enter_context(as_it_evaluates(model))
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(torch.autocast(images.device.type, enabled=False))
        for layer in features:
            hook = keep_features(layer.features)
            handle = model.get_submodule(layer.features).register_forward_hook(hook)
            stack.callback(handle.remove)
        stack.enter_context(probed(modules, weights.__setitem__))
        logits = model.forward_head(model.forward_features(images))
    return Recording(layout, logits, weights, kept)
