#!/usr/bin/env bash
# Software: timm 1.0.31 (RandAugment), Pillow 13.0.0, torch 2.14.1, torchvision 0.29.1
# Input: an RGB image, 20,000 times through rand-m9-mstd0.5-inc1 (as DeiT), rand-m7-mstd0.5-inc1, rand-m2
# Guess: at the strongest posterize with inc, and at the weakest without, the image is black
# Seen: ValueError "bits must be between or equal to 1 and 8" for more than 5 images with m9 and more
#   than 500 with m2; none with m7. timm asks for 0 bits there, and this Pillow refuses them
# Matters: mstd0.5 takes m9 to the limit of 10 once in 44 draws, so that DeiT's recipe stops with an
#   error at about one image in 660 (2 operations out of 15, each applied half of the time)
# vtrain: posterizes by itself, and takes 0 bits (the strongest of AugMix) as black
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install timm==1.0.31 pillow==13.0.0 torch==2.14.1 torchvision==0.29.1
observe <<'PY'
import random
import numpy as np
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
image = Image.new("RGB", (32, 32), (10, 100, 200))
for recipe, many in (("rand-m9-mstd0.5-inc1", 5), ("rand-m7-mstd0.5-inc1", 0), ("rand-m2", 500)):
    random.seed(0)
    np.random.seed(0)
    augment, refused = rand_augment_transform(recipe, {}), 0
    for _ in range(20000):
        try:
            augment(image)
        except ValueError as error:
            assert "bits must be" in str(error)
            refused += 1
    print(recipe, "more" if refused > many else refused and "fewer", end="; ")
PY
expect "rand-m9-mstd0.5-inc1 more; rand-m7-mstd0.5-inc1 0; rand-m2 more; "
