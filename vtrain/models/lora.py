"""Fine-tuning by low-rank updates: which layers of a model get them, and what else is trained.

Reference: Hu et al., "LoRA", arXiv:2106.09685.
"""

from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import nn

from vtrain.layers.low_rank import add_low_rank
from vtrain.models.base import ImageClassifier
from vtrain.registry import Section


class Lora(Section):
    """`model.lora`: low-rank updates of the attention; all but these and the heads is fixed."""

    rank: Annotated[int, Field(ge=1, le=1024)]
    """Rank of an update: a layer of K inputs and N outputs has rank x (K + N) numbers to learn."""
    alpha: PositiveFloat | None = None
    """An update is multiplied by alpha / rank; null is twice the rank."""
    mlp: bool = False
    """Whether the layers of the MLPs are updated, too."""


def adapt(model: ImageClassifier, lora: Lora) -> list[str]:
    """Give layers low-rank updates, and let these and the heads alone be trained.

    Those of the attention are the projections to queries, keys and values and the one after it. At
    first the model computes what it did before.

    Returns:
        The names of the layers.

    Raises:
        ValueError: The rank is too high for one of them; the message names it.
    """
    kinds = ("attn", "mlp") if lora.mlp else ("attn",)
    layers = {
        name: module
        for name, module in model.named_modules()
        # In `blocks.0.attn.qkv` the layer's module says what it is of; TNT calls two of them
        # `attn_in` and `attn_out`.
        if isinstance(module, nn.Linear) and f".{name}".split(".")[-2].startswith(kinds)
    }
    assert layers, "a model without attention"
    heads = model.depth_groups()[-1]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in heads)
    alpha = 2.0 * lora.rank if lora.alpha is None else lora.alpha
    for name, layer in layers.items():
        try:
            add_low_rank(layer, lora.rank, alpha)
        except ValueError as error:
            raise ValueError(f"lora.{error} of {name}") from None
    return list(layers)
