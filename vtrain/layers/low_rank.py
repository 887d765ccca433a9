"""Low-rank updates of dense layers: a fixed weight plus a product of two thin matrices.

Of a layer of K inputs and N outputs W' = W + alpha / rank * B A, A (rank, K) and B (N, rank). B is
0 at first, so that W' is W. Differs from the reference code: the product is added to the weight and
not to the output, so that a model in training computes to the bit what it does once the two are
one; there is no dropout.

Reference: Hu et al., "LoRA", arXiv:2106.09685 (github.com/microsoft/LoRA).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

WITHIN = ".parametrizations.weight."
"""Stands between a layer's name and those of the parts that its weight is made of."""


class LowRank(nn.Module):
    """Adds a product of rank `rank` to a weight. Shape: (N, K) -> (N, K)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.lora_a = nn.Parameter(weight.new_empty(rank, inputs))
        self.lora_b = nn.Parameter(weight.new_zeros(outputs, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as in the reference code

    def forward(self, weight: Tensor) -> Tensor:
        return self.added(weight, self.lora_a, self.lora_b)

    def added(self, weight: Tensor, lora_a: Tensor, lora_b: Tensor) -> Tensor:
        """Return the weight with the product of these two added, in their own precision."""
        if weight.is_meta:  # which autocast does not know
            return weight + self.scale * (lora_b @ lora_a)
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (lora_b @ lora_a)


def add_low_rank(layer: nn.Linear, rank: int, alpha: float) -> None:
    """Make a layer's weight one that low-rank factors update.

    Raises:
        ValueError: The rank is no lower than the weight's own.
    """
    if rank >= min(layer.weight.shape):
        sizes = " x ".join(map(str, layer.weight.shape))
        raise ValueError(f"rank ({rank}) must be less than each side of a weight ({sizes})")
    parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, alpha))


def is_adapted(model: nn.Module) -> bool:
    """Return whether any layer has low-rank factors."""
    return any(isinstance(module, LowRank) for module in model.modules())


def merged(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapted model's tensors under the names and with the values of one that is not.

    `weights` are its own, or an average of them, under its own names.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        layer, within, part = name.partition(WITHIN)
        if not within:
            found[name] = tensor
        elif part == "original":
            update = model.get_submodule(f"{layer}{WITHIN}0")
            assert isinstance(update, LowRank)
            factors = (weights[f"{layer}{WITHIN}0.{factor}"] for factor in ("lora_a", "lora_b"))
            found[f"{layer}.weight"] = update.added(tensor, *factors)
    return found


def parts(weights: Mapping[str, Tensor], *, with_fixed: bool = True) -> dict[str, Tensor]:
    """Return what adapted weights are made of: the factors, and the weights that are fixed."""
    return {
        name: tensor
        for name, tensor in weights.items()
        if WITHIN in name and (with_fixed or not name.endswith("original"))
    }


def separated(weights: Mapping[str, Tensor], made_of: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `merged`: put the `parts` in the places of the weights that they make."""
    made = {f"{name.partition(WITHIN)[0]}.weight" for name in made_of}
    return {**{name: t for name, t in weights.items() if name not in made}, **made_of}
