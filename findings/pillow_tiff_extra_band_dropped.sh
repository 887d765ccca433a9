#!/usr/bin/env bash
# Software: Pillow 13.0.0, tifffile 2026.3.3
# Input: TIFF with an extra band of unspecified meaning: grey + 1 and RGB + 1 (as near infrared)
# Guess: four bands open as RGBX, so that the fourth can be had
# Seen: modes L and RGB: the extra band is dropped; tifffile reads 2 and 4 bands
# Matters: a classifier of multispectral images trains without a channel, and nothing is said
# vtrain: reads with Pillow and trains on colour or grey, so the extra band is not seen either
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
observe <<'PY'
import numpy as np
import tifffile
from PIL import Image
words = []
for bands, kind in ((2, "minisblack"), (4, "rgb")):
    image = np.full((16, 24, bands), 50, np.uint8)
    tifffile.imwrite("x.tif", image, photometric=kind, planarconfig="contig", extrasamples=[0])
    words.append(f"{tifffile.imread('x.tif').shape[-1]} bands {Image.open('x.tif').mode}")
print("; ".join(words))
PY
expect "2 bands L; 4 bands RGB"
