#!/usr/bin/env bash
# Software: numpy 2.4.6 (mean and std of float32 over the first axes)
# Input: 1,000 images of 224 x 224 x 3, channels last, float32, uniform in 0 to 1
# Guess: the mean of each channel is off in the third digit
# Seen: 0.334 instead of 0.500, the same in all three channels, and a standard deviation 7 % too large;
#   with dtype=float64, or each channel by itself (images[..., 0].mean()): right within 0.1 %
# Matters: each channel is one running float32 sum, which stands still at 2^24 (16.8 million): the
#   more images, the smaller the "mean" that goes into Normalize
# vtrain: has no such sum: means and deviations are keys of the config; its own sums run in float64
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install numpy==2.4.6
observe <<'PY'
import numpy as np
images = np.random.default_rng(0).random((1000, 224, 224, 3), dtype=np.float32)
axes = (0, 1, 2)
single = np.array([images[..., channel].mean() for channel in range(3)])
def word(found, right):
    return "right" if abs(found / right - 1).max() < 1e-3 else f"{found.mean():.2f}"
print(f"mean {word(images.mean(axes), 0.5)}, std {word(images.std(axes), 12**-0.5)};",
      f"float64 mean {word(images.mean(axes, dtype=np.float64), 0.5)};",
      f"single channels {word(single, 0.5)}")
PY
expect "mean 0.33, std 0.31; float64 mean right; single channels right"
