#!/usr/bin/env bash
# Software: scikit-learn 1.9.1 (TSNE), numpy 2.4.6
# Input: 200 x 16 float32 numbers, C order; the same in Fortran order; the same as float64
# Guess: a fixed random_state gives the same picture twice (of memory order nothing was guessed)
# Seen: the same array twice: bits equal; the same values in another order or type: points lie
#   more than 10 units away
# Matters: features stacked or transposed in another way give another map of the same model
# vtrain: takes float64 and one path of PCA before t-SNE, so one run of it has one order and type
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install scikit-learn==1.9.1 numpy==2.4.6
observe <<'PY'
import numpy as np
from sklearn.manifold import TSNE
x = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
def picture(x):
    return TSNE(random_state=0, init="pca", n_jobs=1).fit_transform(x)
first = picture(x)
print(*("same" if (gap := abs(first - picture(other)).max()) == 0 else "far" if gap > 5 else "near"
        for other in (x, np.asfortranarray(x), x.astype(np.float64))))
PY
expect "same far far"
