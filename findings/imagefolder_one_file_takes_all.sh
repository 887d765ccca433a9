#!/usr/bin/env bash
# Software: datasets 5.2.0 (imagefolder)
# Input: two class folders with two PNG images each; one of the files is called IMG_test_1.png
# Guess: one split with all four images, each labelled by its parent folder
# Seen: a split "test" with the one image; the three others are gone, and so are the labels
# Matters: one photograph with "test" in its name hides all others, and nothing is said
# vtrain: reads splits from folders at the top only; the name of a file never makes a split
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install datasets==5.2.0 pillow==13.0.0
export HF_HUB_OFFLINE=1 HF_HOME="$WORK/hf"
observe <<'PY'
from pathlib import Path
from PIL import Image
from datasets import load_dataset
for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/IMG_test_1.png"):
    path = Path("pets", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
sets = load_dataset("imagefolder", data_dir="pets")
print(*(f"{name} {len(rows)} {sorted(rows.features)}" for name, rows in sets.items()))
PY
expect "test 1 ['image']"
