"""An exponential moving average of the weights: often better than the last ones, never noisier.

Reference: Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", 1992; with a
decay per step as in Szegedy et al., arXiv:1512.00567, section 8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """The average of a model's parameters and buffers.

    After n updates the decay is min(`decay`, (1 + n) / (10 + n)): the average looks back over about
    a tenth of the run at first, so the random initial weights fade, and over 1 / (1 - `decay`)
    steps once the run is long enough. Integer buffers are copied.

    The model is the bare one (not wrapped by DDP), already on its device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        assert 0 <= decay < 1
        self.decay = decay
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._model: nn.Module | None = None
        self._live: list[Tensor] = []

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights that `step` optimizer steps have made."""
        pairs = list(zip(self.weights.values(), self._tensors(model), strict=True))
        # All floats in one fused call; a kernel per tensor would be launched at every step.
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, live = [list(column) for column in zip(*floats, strict=True)]
        torch._foreach_lerp_(averages, live, 1 - self.decay_at(step))
        for average, tensor in pairs:
            if not average.is_floating_point():
                average.copy_(tensor)

    def decay_at(self, step: int) -> float:
        """Return the share of the average that update number `step` keeps."""
        return min(self.decay, (1 + step) / (10 + step))

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Let `model` carry the averages, and `self` the live weights, until the block ends.

        Values are exchanged in place: whatever holds the parameters' addresses (an optimizer, DDP's
        buckets, a CUDA graph) keeps them, and no second model is made.
        """
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages under the model's own names."""
        return {"weights": dict(self.weights)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy saved averages over the present ones."""
        assert state["weights"].keys() == self.weights.keys()
        for name, tensor in self.weights.items():
            tensor.copy_(state["weights"][name])

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        # One tensor at a time, so that only the largest is held twice.
        for average, tensor in zip(self.weights.values(), self._tensors(model), strict=True):
            kept = tensor.clone()
            tensor.copy_(average)
            average.copy_(kept)

    def _tensors(self, model: nn.Module) -> list[Tensor]:
        if model is not self._model:  # walking the modules at every step would cost more than lerp
            self._model = model
            # In the order of `state_dict`, as the averages are: the two meet by their places.
            self._live = list(model.state_dict().values())
        return self._live
