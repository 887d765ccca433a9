#!/usr/bin/env bash
# Software: imbalanced-learn 0.14.2 (SMOTE), scikit-learn 1.9.1, numpy 2.4.6
# Input: scikit-learn's digits as uint8 pixels, one class cut to 20 images; the same as float64
# Guess: the new images lie between two neighbours, rounded: at most one level from those of float64
# Seen: more than a tenth of their pixels is over a level off, some over 200 levels
# Matters: differences of neighbours are taken in uint8, where 10 - 20 is 246: the added images of the
#   rare class are noise, and nothing is said
# vtrain: `data.balanced` draws images of rare classes more often and makes up no pixels
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install imbalanced-learn==0.14.2 scikit-learn==1.9.1 numpy==2.4.6
observe <<'PY'
import numpy as np
from imblearn.over_sampling import SMOTE
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
x = (x / 16 * 255).round().astype(np.uint8)
kept = (y != 3) | (np.cumsum(y == 3) <= 20)
x, y = x[kept], y[kept]
made, right = (SMOTE(random_state=0).fit_resample(pixels, y)[0][len(x):].astype(float)
               for pixels in (x, x.astype(np.float64)))
off = abs(made - right)
print("as floats" if off.max() <= 1 else
      f"wrapped: {'more' if (off > 1).mean() > 0.1 else 'less'} than a tenth of the pixels,",
      f"{'over' if off.max() > 200 else 'below'} 200 levels")
PY
expect "wrapped: more than a tenth of the pixels, over 200 levels"
