#!/usr/bin/env bash
# Software: opencv-python-headless 4.14.0.94 and 5.0.0.93, Pillow 13.0.0, numpy 2.4.6
# Input: 400 x 300 RGB noise: rotated by 17.3 degrees (warpAffine, linear); resized to 600 x 450 with
#   INTER_NEAREST_EXACT
# Guess: resizes are equal in 4 and 5, rotations at most 3 levels apart
# Seen: rotation: 4 is more than 4 levels off the bilinear formula, 5 within rounding; nearest: 5 takes
#   Pillow's pixels, 4 other ones for more than a quarter
# Matters: a model that was trained with rotations or resizes of OpenCV 4 gets other pixels in 5
# vtrain: does without OpenCV
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install pillow==13.0.0 numpy==2.4.6
for version in 4.14.0.94 5.0.0.93; do
    venv/bin/pip install --quiet --no-deps --target "cv$version" "opencv-python-headless==$version" \
        2> pip.log || { cat pip.log >&2; exit 2; }
done
cat > look.py <<'PY'
import cv2
import numpy as np
from PIL import Image
image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
forward = cv2.getRotationMatrix2D((200, 150), 17.3, 1.1)
y, x = np.mgrid[:300, :400]
(a, b, c), (d, e, f) = cv2.invertAffineTransform(forward)
x, y = a * x + b * y + c, d * x + e * y + f
inside = (x > 1) & (x < 398) & (y > 1) & (y < 298)
x, y = x[inside], y[inside]
left, top = x.astype(int), y.astype(int)
u, v = (x - left)[:, None], (y - top)[:, None]
right = ((1 - v) * ((1 - u) * image[top, left] + u * image[top, left + 1])
         + v * ((1 - u) * image[top + 1, left] + u * image[top + 1, left + 1]))
gap = abs(cv2.warpAffine(image, forward, (400, 300))[inside] - right).max()
nearest = cv2.resize(image, (600, 450), interpolation=cv2.INTER_NEAREST_EXACT)
other = (nearest != np.asarray(Image.fromarray(image).resize((600, 450), 0))).any(-1).mean()
print(cv2.__version__[0], "rounding" if gap < 0.6 else "over 4 levels" if gap > 4 else "near",
      "as Pillow" if other == 0 else "over a quarter others" if other > 0.25 else "some others", end="; ")
PY
observe <<'PY'
import os, subprocess, sys
for version in ("4.14.0.94", "5.0.0.93"):
    subprocess.run([sys.executable, "look.py"], env={**os.environ, "PYTHONPATH": f"cv{version}"}, check=True)
PY
expect "4 over 4 levels over a quarter others; 5 rounding as Pillow; "
