"""Linear CKA: how alike what two layers know of the same images is.

Reference: Kornblith et al., arXiv:1905.00414, with the unbiased HSIC over minibatches of Nguyen et
al., arXiv:2010.15327; the biased one is near 1 wherever features are more than images.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from vtrain.explain.recording import record
from vtrain.models.base import ImageClassifier

FEWEST = 4
"""Images of a batch, below which the unbiased estimate is not defined."""


def centred_gram(features: Tensor) -> Tensor:
    """Return the Gram matrix of images without its diagonal. Shape: (n, D) -> (n, n)."""
    X = features.double()
    X = X - X.mean(0)  # changes nothing but rounding: HSIC does not see a common shift
    return (X @ X.T).fill_diagonal_(0)


def hsic(one: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased HSIC of two Gram matrices without diagonals. Shape: (n, n) -> ()."""
    n, k, m = len(one), one.sum(0), other.sum(0)
    total = (one * other).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m)
    return total / (n * (n - 3))


def cka(one: Iterable[Sequence[Tensor]], other: Iterable[Sequence[Tensor]]) -> Tensor:
    """Return the CKA of each layer of one model with each of another.

    Both give, for the same batches of at least four images, the features of each layer, (n, D).

    Shape: -> (layers of `one`, layers of `other`).
    """
    cross = own = theirs = torch.zeros(())
    for first, second in zip(one, other, strict=True):
        rows, columns = ([centred_gram(f) for f in features] for features in (first, second))
        cross = cross + torch.stack([torch.stack([hsic(k, m) for m in columns]) for k in rows])
        own = own + torch.stack([hsic(k, k) for k in rows])
        theirs = theirs + torch.stack([hsic(m, m) for m in columns])
    return cross / (own[:, None] * theirs[None]).clamp(min=1e-30).sqrt()


def features_of(
    model: ImageClassifier, batches: Callable[[], Iterable[Tensor]]
) -> Iterable[list[Tensor]]:
    """Yield, for each batch of normalised images, the features of each block, (n, tokens * D)."""
    for images in batches():
        layers = model.attention_layout(*images.shape[-2:]).patches
        kept = record(model, images, features=layers).features
        yield [kept[layer.features].flatten(1).cpu() for layer in layers]
