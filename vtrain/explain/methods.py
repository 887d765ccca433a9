"""Where on an image the evidence is: five methods, each a map for every image of a batch.

B images, T target classes of each, K classes, H heads, A attention weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vtrain.errors import ConfigError
from vtrain.explain.flow import as_map, pooled_rows, through, unmerged, without_padding
from vtrain.explain.recording import Recording, as_it_evaluates, record
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer, AttentionLayout

IG_STEPS = 50
"""Points between the mean colour and the image; captum's default."""
WEIGHTS_AT_ONCE = 16_000_000
"""Attention weights of a batch: 64 MB, beside which the graph takes several times as much."""


@dataclass(frozen=True)
class Request:
    """What is asked of a method.

    Attributes:
        targets: The classes to explain, (B, T); methods that know no class do not look at them.
        layer: The number of a block, from the end if negative; None means the method's own choice.
        head: One attention head; None means the mean of all.
    """

    targets: Tensor
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True)
class Map:
    """Where the evidence is.

    Attributes:
        name: Which of the model's tokens or maps it is of; empty where there is only one.
        target: Which column of the targets it is of; None where it is of no class.
        values: (B, rows, columns), which cover the image that the model saw.
    """

    name: str
    target: int | None
    values: Tensor


def attention(model: ImageClassifier, images: Tensor, request: Request) -> list[Map]:
    """Return the attention of what the heads read, in one block, by default the last one.

    With a class token that is its row; without one, the mean over all queries. The words inside
    patches have a map of their own: how much each is attended to by those of its patch.
    """
    recording = record(model, images)
    layer = chosen_layer(recording, request.layer, default=-1)
    layers = recording.layout.layers
    before = layers[: layers.index(layer)]
    words = [other for other in before if other.level == "words"][-1:]
    maps = []
    for one in (layer, *words):
        weights = recording.of(one)
        # Another number of heads inside patches: only their mean is comparable.
        of_head = request.head is not None and one is layer
        matrix = weights[:, :, request.head] if of_head else weights.mean(2)  # (B, nW, n, n)
        for name, row in pooled_rows(recording.layout, one, recording.logits).items():
            found = as_map(through(row, matrix, one), one)
            maps.append(Map("words" if one in words else name, None, found))
    return maps


def rollout(model: ImageClassifier, images: Tensor, request: Request) -> list[Map]:
    """Return how much of each patch reaches the heads if attention is all that happens.

    a_l = rownorm(mean_h A_l + I), and the map is the heads' row of a_L ... a_1 (Abnar and Zuidema,
    arXiv:2005.00928).
    """
    recording = record(model, images)

    def step(row: Tensor, layer: AttentionLayer) -> Tensor:
        mean = without_padding(recording.of(layer).mean(2), layer)
        eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        return through(row, (mean + eye) / (mean.sum(-1, keepdim=True) + 1), layer)

    return [Map(name, None, found) for name, found in followed(recording, step).items()]


def relevance(model: ImageClassifier, images: Tensor, request: Request) -> list[Map]:
    """Return rollout weighted by what raises the class.

    R = I, then R += mean_h relu(dy/dA_l * A_l) @ R for each block; the map is the heads' row of R
    without what no attention moved (Chefer et al., arXiv:2103.15679, the rule of self-attention).
    """
    recording = record(model, images, gradients=True)
    layers = recording.layout.patches
    weights = [recording.weights[layer.module] for layer in layers]
    maps = []
    for t in range(request.targets.shape[1]):
        gradients = torch.autograd.grad(
            score(recording.logits, request.targets[:, t]), weights, retain_graph=True
        )
        useful = {
            # (B * nW, H, n, n) -> (B, nW, n, n)
            layer.module: recording.per_image((gradient * A).clamp(min=0).mean(1).detach())
            for layer, gradient, A in zip(layers, gradients, weights, strict=True)
        }

        def step(row: Tensor, layer: AttentionLayer, useful: dict[str, Tensor] = useful) -> Tensor:
            return row + through(row, useful[layer.module], layer)

        unmoved = followed(recording, lambda row, _: row)
        maps += [
            Map(name, t, found - unmoved[name]) for name, found in followed(recording, step).items()
        ]
    return maps


def gradcam(model: ImageClassifier, images: Tensor, request: Request) -> list[Map]:
    """Return the features of a block, weighted by what their mean gradient says of the class.

    w = mean over the map of dy/dX, and the map is relu(X w) (Selvaraju et al., arXiv:1610.02391).
    """
    layout = model.attention_layout(images.shape[-2], images.shape[-1])
    layer = pick(layout.patches, request.layer, default=-1)
    recording = record(model, images, gradients=True, features=[layer])
    X = recording.features[layer.features]  # (B, n, D)
    maps = []
    for t in range(request.targets.shape[1]):
        y = score(recording.logits, request.targets[:, t])
        (gradient,) = torch.autograd.grad(y, X, retain_graph=True)
        front = len(layer.prefix)
        weights = gradient[:, front:].mean(1, keepdim=True)  # (B, 1, D)
        maps.append(Map("", t, as_map((X * weights).sum(-1).relu().detach(), layer)))
    return maps


def integrated_gradients(model: ImageClassifier, images: Tensor, request: Request) -> list[Map]:
    """Return the size of each pixel's share in what lifts the class above that of a blank image.

    (x - x0) times the mean gradient on the way from x0, the mean colour, to x (Sundararajan et al.,
    arXiv:1703.01365), summed over the colours.
    """
    return [
        Map("", t, integrated(model, images, request.targets[:, t]).sum(1).abs())
        for t in range(request.targets.shape[1])
    ]


def integrated(
    model: ImageClassifier, images: Tensor, targets: Tensor, steps: int = IG_STEPS
) -> Tensor:
    """Return integrated gradients, which sum to y(x) - y(x0) but for the error of `steps` points.

    Shape: images (B, C, height, width), targets (B,) -> (B, C, height, width).
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)  # on [-1, 1], shares sum to 2
    total = torch.zeros_like(images)
    with as_it_evaluates(model), torch.enable_grad():
        for node, share in zip(nodes.tolist(), shares.tolist(), strict=True):
            # x0 is 0: the mean colour, once normalised.
            point = (images * (node + 1) / 2).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(model(point), targets), point)
            total += gradient * (share / 2)
    return total * images


@dataclass(frozen=True)
class Method:
    """A method, and which parts of a request it looks at."""

    function: Callable[[ImageClassifier, Tensor, Request], list[Map]]
    of_class: bool = False
    takes_layer: bool = False
    takes_head: bool = False


METHODS = {
    "attention": Method(attention, takes_layer=True, takes_head=True),
    "rollout": Method(rollout),
    "relevance": Method(relevance, of_class=True),
    "gradcam": Method(gradcam, of_class=True, takes_layer=True),
    "ig": Method(integrated_gradients, of_class=True),
}


def automatic(layout: AttentionLayout, targeted: bool) -> str:
    """Return the method to choose where none is asked for; `docs/en/explain.md` says why.

    Rollout found a planted mark the most surely, but knows no class; of those that do it is another
    one for each kind of head.
    """
    if not targeted:
        return "rollout"
    return "ig" if layout.pooled else "relevance"


def check_request(model: ImageClassifier, layer: int | None, head: int | None) -> None:
    """Refuse a block or a head that the model does not have.

    Raises:
        ConfigError: There is none of that number.
    """
    size = model.image_size
    layers = model.attention_layout(size, size).patches
    if layer is not None and not -len(layers) <= layer < len(layers):
        what = f"--layer {layer} is none of the model's {len(layers)} blocks"
        raise ConfigError(what, "command line", f"give 0 to {len(layers) - 1}, or -1 for the last")
    heads = num_heads(model, pick(layers, layer, default=-1))
    if head is not None and not 0 <= head < heads:
        what = f"--head {head} is none of the block's {heads} heads"
        raise ConfigError(what, "command line", f"give 0 to {heads - 1}")


def num_heads(model: ImageClassifier, layer: AttentionLayer) -> int:
    """Return the heads of a layer."""
    heads = model.get_submodule(layer.module).num_heads
    assert isinstance(heads, int)
    return heads


def images_at_once(model: ImageClassifier, height: int, width: int) -> int:
    """Return how many images' weights and gradients take a few hundred megabytes, at most 32."""
    numbers = 0
    for layer in model.attention_layout(height, width).layers:
        tokens = len(layer.prefix) + layer.rows * layer.columns
        per_window = tokens if layer.windows is None else layer.windows.side**2
        numbers += num_heads(model, layer) * tokens * per_window
    return max(1, min(32, WEIGHTS_AT_ONCE // numbers))


@torch.enable_grad()  # whatever the caller has switched off
def score(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the targets' logits: each image's gradient is its own. -> ()."""
    return logits.gather(1, targets[:, None]).sum()


def pick(layers: tuple[AttentionLayer, ...], number: int | None, default: int) -> AttentionLayer:
    """Return the layer of block `number`, counted from the end if negative."""
    return layers[default if number is None else number]


def chosen_layer(recording: Recording, number: int | None, default: int) -> AttentionLayer:
    """Return the layer among patches of block `number`."""
    return pick(recording.layout.patches, number, default)


def followed(
    recording: Recording, step: Callable[[Tensor, AttentionLayer], Tensor]
) -> dict[str, Tensor]:
    """Take what the heads read down to the first layer; by name, (B, rows, columns).

    `step` takes a row over a layer's tokens to the row over its input.
    """
    layers = recording.layout.patches
    rows = pooled_rows(recording.layout, layers[-1], recording.logits.detach())
    found = {}
    for name, top in rows.items():
        row, above = top, layers[-1]
        for layer in reversed(layers):
            row = step(unmerged(row, above, layer), layer)
            above = layer
        found[name] = as_map(row, above)
    return found
