#!/usr/bin/env bash
# Software: opencv-python-headless 5.0.0.93, Pillow 13.0.0, numpy 2.4.6
# Input: one RGB image as PNG three times: bare, with a gAMA chunk of 1/2.2, with an sRGB chunk
# Guess: gAMA and sRGB make no difference: the pixels are the same
# Seen: IMREAD_COLOR: the same; IMREAD_GRAYSCALE: both chunks change the grey by up to more than 20
#   levels, as colours are then mixed in linear light; Pillow's convert("L"): the same for all three
# Matters: which program saved the PNG decides on the grey that a classifier gets; grey read directly
#   differs from colour that is turned to grey afterwards
# vtrain: reads with Pillow, which ignores both chunks
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
observe <<'PY'
import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
read = {"colour": lambda name: cv2.imread(name, cv2.IMREAD_COLOR),
        "grey": lambda name: cv2.imread(name, cv2.IMREAD_GRAYSCALE),
        "Pillow": lambda name: np.asarray(Image.open(name).convert("L"))}
image.save("bare.png")
words = []
for chunk, content in ((b"gAMA", (45455).to_bytes(4, "big")), (b"sRGB", b"\0")):
    info = PngInfo()
    info.add(chunk, content)
    image.save("marked.png", pnginfo=info)
    for name, reader in read.items():
        gap = abs(reader("bare.png").astype(int) - reader("marked.png")).max()
        words.append(f"{chunk.decode()} {name} {'same' if gap == 0 else 'far' if gap > 20 else 'near'}")
print("; ".join(words))
PY
expect "gAMA colour same; gAMA grey far; gAMA Pillow same; sRGB colour same; sRGB grey far; sRGB Pillow same"
