#!/usr/bin/env bash
# Software: opencv-python-headless 5.0.0.93 (IMREAD_REDUCED_COLOR_2, _4, _8), Pillow 13.0.0, numpy 2.4.6
# Input: a 512 x 512 RGB image of noise as PNG, lossless WebP and JPEG (quality 100, 4:4:4)
# Guess: each reduced pixel is the mean of its square within a few levels, for JPEG and for PNG (PNG
#   with a doubt)
# Seen: JPEG: within 4 levels for 2, 4 and 8. PNG and WebP: for 2 within 1 level, for 4 and 8 more than
#   100 levels off: interpolated between two neighbours, most pixels are never looked at
# Matters: thumbnails from the same pictures are smooth from JPEG and jagged from PNG, and a classifier
#   can tell the file format
# vtrain: reads images whole, but a JPEG over the limit of pixels at a half, and resizes them with a
#   filter over all pixels
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
observe <<'PY'
import cv2
import numpy as np
from PIL import Image
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))
for kind, options in (("jpg", {"quality": 100, "subsampling": 0}), ("png", {}),
                      ("webp", {"lossless": True})):
    image.save(f"x.{kind}", **options)
    whole = cv2.imread(f"x.{kind}")
    print(kind, end=" ")
    for k in (2, 4, 8):
        reduced = cv2.imread(f"x.{kind}", getattr(cv2, f"IMREAD_REDUCED_COLOR_{k}"))
        gap = abs(reduced - whole.reshape(512 // k, k, 512 // k, k, 3).mean((1, 3))).max()
        print("near" if gap < 4 else "far" if gap > 100 else "between", end=" ")
PY
expect "jpg near near near png near far far webp near far far "
