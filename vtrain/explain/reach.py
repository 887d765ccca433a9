"""How far attention reaches, by depth and head: in pixels, beside what uniform attention would.

Reference: figure 7 (right) of Dosovitskiy et al., arXiv:2010.11929, computed as its authors do: the
class token's row and column are dropped and the rest is not scaled up to 1 again.

B images, nW windows, n tokens of a window, P of them in front of the map, H heads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtrain.explain.recording import record
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """How far one layer's attention reaches; what is of heads has shape (H,).

    Attributes:
        module: The layer.
        level: `patches`, or `words` inside them.
        as_published: Mean distance in pixels, with the mass on the tokens in front counted as 0.
        renormalised: The same of the mass that is on the map.
        uniform: What uniform attention over the tokens that may meet comes to.
        largest: The largest distance between two tokens that may meet.
        entropy: 0 where each query looks at one token, 1 where it looks at all alike.
        prefix: Share of the mass of the map's queries that is on the tokens in front.
        itself: Share that is on the query's own token.
    """

    module: str
    level: str
    as_published: Array
    renormalised: Array
    uniform: float
    largest: float
    entropy: Array
    prefix: Array
    itself: Array


def attention_reach(model: ImageClassifier, batches: Iterable[Tensor]) -> list[Reach]:
    """Return the reach of each layer, averaged over images (B, C, height, width), normalised."""
    sums: dict[str, Tensor] = {}
    count = 0
    layers: tuple[AttentionLayer, ...] = ()
    where: dict[str, Geometry] = {}
    for images in batches:
        recording = record(model, images)
        if not where:
            layers = recording.layout.layers
            where = {one.module: Geometry.of(one, *images.shape[-2:]) for one in layers}
        for layer in layers:
            # Reduced at once: the weights of many images would take gigabytes.
            found = where[layer.module].statistics(recording.of(layer).cpu()).sum(0)
            sums[layer.module] = sums.get(layer.module, 0) + found
        count += len(images)
    result = []
    for layer in layers:
        geometry, means = where[layer.module], (sums[layer.module] / count).numpy()  # (5, H)
        facts = (geometry.uniform, geometry.largest)
        published, renormalised, *rest = means
        result.append(Reach(layer.module, layer.level, published, renormalised, *facts, *rest))
    return result


@dataclass(frozen=True)
class Geometry:
    """Where the tokens of a layer's windows are.

    Shape: distances (nW, n - P, n - P) in pixels, may_meet the same, is_token (nW, n - P).
    """

    front: int
    distances: Tensor
    may_meet: Tensor
    is_token: Tensor

    @classmethod
    def of(cls, layer: AttentionLayer, height: int, width: int) -> "Geometry":
        """Return the geometry of a layer on images of this size."""
        tokens = layer.rows * layer.columns
        order = torch.arange(tokens)[None]
        masked = torch.zeros(1, 1, 1, dtype=torch.bool)
        if layer.windows is not None:
            order = layer.windows.order.cpu().view(-1, layer.windows.side**2)
            if layer.windows.mask is not None:
                masked = layer.windows.mask.cpu() < 0
        is_token = order < tokens
        y = (order // layer.columns).double() * (height / layer.rows)
        x = (order % layer.columns).double() * (width / layer.columns)
        distances = torch.hypot(y[:, :, None] - y[:, None], x[:, :, None] - x[:, None])
        both = is_token[:, :, None] & is_token[:, None]
        may_meet = both & ~masked
        return cls(len(layer.prefix), distances * both, may_meet, is_token)

    @property
    def uniform(self) -> float:
        """The mean distance of the tokens that may meet, over all queries."""
        per_query = (self.distances * self.may_meet).sum(-1) / self.may_meet.sum(-1).clamp(min=1)
        return float(per_query[self.is_token].mean())

    @property
    def largest(self) -> float:
        """The largest distance of two tokens that may meet."""
        return float((self.distances * self.may_meet).max())

    def statistics(self, weights: Tensor) -> Tensor:
        """Return what `Reach` names, of each image. Shape: (B, nW, H, n, n) -> (B, 5, H)."""
        P = self.front
        queries = weights.double()[..., P:, :]  # (B, nW, H, n - P, n)
        on_map = queries[..., P:] * self.is_token[:, None, None]
        distance = (on_map * self.distances[:, None]).sum(-1)  # (B, nW, H, n - P)
        mass = on_map.sum(-1)
        logs = torch.where(queries > 0, queries.log(), 0.0)
        # As a share of the largest: with a mask fewer tokens may meet.
        choices = P + self.may_meet.sum(-1)
        entropy = -(queries * logs).sum(-1) / choices.clamp(min=2).log()[:, None]
        own = on_map.diagonal(dim1=-2, dim2=-1)
        kept = (
            distance,
            distance / mass.clamp(min=1e-12),
            entropy,
            queries[..., :P].sum(-1),
            own,
        )
        is_token = self.is_token[:, None].double()
        return torch.stack(
            [(one * is_token).sum((1, 3)) / self.is_token.sum() for one in kept], dim=1
        )
