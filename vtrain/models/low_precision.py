"""A model whose weights and activations are bf16 while its own parameters stay fp32.

Autocast casts each weight where a product needs it and leaves layer norms and the residual stream
in fp32. Here every parameter is cast once and everything between images and logits is bf16: fewer
casts, and activations of half the size. The fp32 parameters are the masters: the casts are a part
of the graph, so gradients arrive at the masters in fp32, and the optimizer, clipping, the moving
average, DDP and checkpoints deal with nothing else.

Reference: Micikevicius et al., "Mixed precision training", arXiv:1710.03740, section 3.1.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vtrain.models.base import ImageClassifier


class LowPrecision(nn.Module):
    """Call a model with its parameters, its buffers and the images cast to `dtype`.

    The casts are made anew at each call: a copy that is kept could be older than its master.

    Shape: as the model; the logits are fp32.

    Args:
        model: Holds the masters; its own names and dtypes do not change.
        dtype: Of weights and activations.
    """

    def __init__(self, model: ImageClassifier, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, images: Tensor) -> Any:
        low = {name: tensor.to(self.dtype) for name, tensor in self._to_cast()}
        with torch.autocast(images.device.type, enabled=False):
            out = functional_call(self.model, low, (images.to(self.dtype),))
        return out.float() if isinstance(out, Tensor) else type(out)(*(x.float() for x in out))

    def _to_cast(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            kept = name.rpartition(".")[2] in self.model.kept_wide
            if tensor.is_floating_point() and not kept:
                yield name, tensor
