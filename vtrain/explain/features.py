"""What a model's heads read of images, and a plane on which near images stay near.

N images, D features.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtrain.explain.separation import is_constant
from vtrain.models.base import ImageClassifier

PERPLEXITY = 30.0
PRINCIPAL = 50
"""Components that t-SNE is given, as its author advises."""
FEWEST = 5
"""Images below which a plane has nothing to show."""

Array = NDArray[np.float64]


@contextmanager
def pre_logits(model: ImageClassifier) -> Iterator[list[Tensor]]:
    """Collect what the heads are given in each call of the model; of two heads it is the mean.

    Yields a list that grows by (B, D) float32 with each call.
    """
    heads = [
        module
        for name, module in model.named_modules()
        if name.split(".")[0] in model.depth_groups()[-1] and isinstance(module, nn.Linear)
    ]
    assert heads, "a model without a head"
    kept: list[Tensor] = []
    given: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor]) -> None:
        given.append(arguments[0].detach().float())
        if len(given) == len(heads):
            kept.append(torch.stack(given).mean(0))
            given.clear()

    with ExitStack() as stack:
        for head in heads:
            stack.callback(head.register_forward_pre_hook(keep).remove)
        yield kept


def plane(features: NDArray[np.floating[Any]]) -> Array | None:
    """Return the t-SNE of features, (N, D) -> (N, 2), the same each time; None if it shows nothing.

    Reference: van der Maaten and Hinton, JMLR 9 (2008), by scikit-learn, from principal components.
    """
    if len(features) < FEWEST or is_constant(features):
        return None
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(PRINCIPAL, *features.shape)
    reduced = PCA(count, svd_solver="full").fit_transform(features.astype(np.float64))
    size = reduced[:, 0].std()
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    with warnings.catch_warnings():
        # Where there are fewer components than two it says so; the plane is a line then.
        warnings.simplefilter("ignore")
        start = "pca" if count > 1 else "random"
        tsne = TSNE(2, perplexity=perplexity, init=start, random_state=0)
        return np.asarray(tsne.fit_transform(reduced / size), dtype=np.float64)
