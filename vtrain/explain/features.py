"""A plane on which images stay near whose features are near.

N images, D features.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtrain.explain.separation import is_constant

PERPLEXITY = 30.0
PRINCIPAL = 50
"""Components that t-SNE is given, as its author advises."""
FEWEST = 5
"""Images below which a plane has nothing to show."""

Array = NDArray[np.float64]


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
