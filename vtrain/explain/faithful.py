"""Whether a map can be trusted: does the model need what the map calls important?

Deletion blanks the patches of an image step by step, the most important first: the class's
probability should fall at once. Insertion shows them on a blurred image: it should rise at once
(Petsiuk et al., arXiv:1806.07421). Beside every map stand a random order and the same method's map
of an untrained model (Adebayo et al., arXiv:1810.03292): one that does not beat them says nothing
of this model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from vtrain.errors import DataError, counted
from vtrain.explain.methods import METHODS, Request
from vtrain.models.base import ImageClassifier

STEPS = 10
"""Tenths of the patches that are changed."""
MOST_PATCHES = 14
"""Per side: a ViT's at 224 pixels; more would only make the steps longer."""
LEAST_PIXELS = 4
"""Per side of a patch."""
KINDS = ("deletion", "insertion", "positive", "negative")
ORDERS = ("map", "random", "untrained")
DRAWS = 2000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trust:
    """What was measured on N images.

    Attributes:
        curves: Of a kind and an order, (N, 11): the probability of the class, or for `positive` and
            `negative` whether it still is the likeliest.
    """

    curves: dict[tuple[str, str], Array]

    @property
    def images(self) -> int:
        """How many images it is of."""
        return len(self.curves["deletion", "map"])

    def areas(self, kind: str, order: str) -> Array:
        """Return the area under each image's curve, in [0, 1]. Shape: -> (N,)."""
        curve = self.curves[kind, order]
        return np.asarray((curve[:, :-1] + curve[:, 1:]).mean(1) / 2)  # trapezia

    def gain(self, kind: str, over: str) -> tuple[float, float, float]:
        """Return by how much the map is better than another order: mean, and 95 % of its bootstrap.

        The same images and steps: the differences are paired.
        """
        lower_is_better = kind in ("deletion", "positive")
        sign = -1 if lower_is_better else 1
        gains = sign * (self.areas(kind, "map") - self.areas(kind, over))
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(gains), size=(DRAWS, len(gains)))
        low, high = np.quantile(gains[drawn].mean(1), [0.025, 0.975])
        return float(gains.mean()), float(low), float(high)

    def verdict(self, kind: str, over: str) -> str:
        """Say whether the map beats another order."""
        _, low, high = self.gain(kind, over)
        if self.images < 2 or low <= 0 <= high:
            return "not shown to be better"
        return "better" if low > 0 else "worse"


def trust(
    model: ImageClassifier,
    untrained: ImageClassifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    method: str,
    layer: int | None = None,
    head: int | None = None,
) -> Trust:
    """Measure a method on normalised images and the classes to explain, (B, C, S, S) and (B,).

    Of several maps of an image it is the first.

    Raises:
        DataError: There is no image.
    """
    rng = np.random.default_rng(0)
    found: dict[tuple[str, str], list[Array]] = {}
    for images, targets in batches:
        request = Request(targets[:, None], layer, head)
        side = patches_per_side(images.shape[-1])
        maps = {
            "map": METHODS[method].function(model, images, request)[0].values,
            "random": torch.zeros(len(images), 1, 1, device=images.device),
            "untrained": METHODS[method].function(untrained, images, request)[0].values,
        }
        for order, values in maps.items():
            ranked = ranks(values.detach(), side, rng)
            for kind, curve in curves(model, images, targets, ranked).items():
                found.setdefault((kind, order), []).append(curve)
    if not found:
        raise DataError("no image could be read", hint="name others")
    return Trust({key: np.concatenate(parts) for key, parts in found.items()})


def patches_per_side(size: int) -> int:
    """Return into how many rows of patches an image of `size` pixels is cut."""
    return max(1, min(MOST_PATCHES, size // LEAST_PIXELS))


def ranks(values: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Return the place of each patch in the order of importance, 0 the most important.

    Equal patches are in random order: else a map that says nothing would be read row by row.

    Shape: (B, rows, columns) -> (B, side * side) int64.
    """
    patches = F.interpolate(values[:, None].float(), (side, side), mode="bilinear", antialias=True)
    flat = patches.flatten(1)
    shuffled = torch.from_numpy(rng.permuted(np.tile(np.arange(side**2), (len(flat), 1)), axis=1))
    shuffled = shuffled.to(flat.device)
    order = shuffled.gather(
        1, flat.gather(1, shuffled).argsort(stable=True, dim=1, descending=True)
    )
    return order.argsort(1)


@torch.no_grad()
def curves(
    model: ImageClassifier, images: Tensor, targets: Tensor, ranked: Tensor
) -> dict[str, Array]:
    """Return the curves of each kind. Shape: (B, C, S, S), (B,), (B, patches) -> (B, 11)."""
    count = ranked.shape[1]
    blank, blurred = torch.zeros_like(images), blur(images)
    found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for step in range(STEPS + 1):
        changed = round(count * step / STEPS)
        first = spread(ranked < changed, images)  # the most important
        last = spread(ranked >= count - changed, images)
        deleted, hit = judged(model, torch.where(first, blank, images), targets)
        found["deletion"].append(deleted)
        found["positive"].append(hit)
        found["insertion"].append(judged(model, torch.where(first, images, blurred), targets)[0])
        found["negative"].append(judged(model, torch.where(last, blank, images), targets)[1])
    return {kind: torch.stack(parts, 1).double().cpu().numpy() for kind, parts in found.items()}


def spread(patches: Tensor, images: Tensor) -> Tensor:
    """Return which pixels belong to the chosen patches. Shape: (B, patches) -> (B, 1, S, S)."""
    side = round(patches.shape[1] ** 0.5)
    grid = patches.view(-1, 1, side, side).float()
    return F.interpolate(grid, images.shape[-2:], mode="nearest") > 0.5


def blur(images: Tensor) -> Tensor:
    """Return images of which only a tint is left, so that nothing small shows. (B, C, S, S)."""
    sigma = images.shape[-1] / 4
    reach = min(2 * round(3 * sigma) + 1, images.shape[-1] // 2 * 2 - 1)
    blurred: Tensor = TF.gaussian_blur(images, [max(1, reach)] * 2, [sigma] * 2)
    return blurred


def judged(model: ImageClassifier, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each target, and whether it is the likeliest. -> (B,), (B,)."""
    logits = model(images).float()
    return logits.softmax(1).gather(1, targets[:, None])[:, 0], logits.argmax(1) == targets


def sentences(measured: Trust, method: str) -> Sequence[str]:
    """Say in words what the map is worth."""
    on = counted(measured.images, "image")
    lines = []
    for over, name in (("random", "a random order"), ("untrained", "an untrained model's map")):
        said = {kind: measured.verdict(kind, over) for kind in ("deletion", "insertion")}
        if set(said.values()) == {"better"}:
            lines.append(f"{method} beats {name} in deletion and insertion, on {on}")
        else:
            parts = " and ".join(f"{word} in {kind}" for kind, word in said.items())
            lines.append(f"{method} does NOT beat {name}: {parts}, on {on}")
    return lines
