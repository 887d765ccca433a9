#!/usr/bin/env bash
# Software: datasets 5.2.0 (imagefolder)
# Input: two class folders with an image each, and one more image in a folder inside the second
# Guess: each image is labelled by its parent folder
# Seen: all three images are read, none has a label: the column is absent
# Matters: one folder moved into another takes the labels of the whole data set, and nothing is said
# vtrain: an image belongs to the class folder at the top, however deep it lies
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install datasets==5.2.0 pillow==13.0.0
export HF_HUB_OFFLINE=1 HF_HOME="$WORK/hf"
observe <<'PY'
from pathlib import Path
from PIL import Image
from datasets import load_dataset
for name in ("cat/1.png", "dog/1.png", "dog/more/2.png"):
    path = Path("pets", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
sets = load_dataset("imagefolder", data_dir="pets")
print(*(f"{name} {len(rows)} {sorted(rows.features)}" for name, rows in sets.items()))
PY
expect "train 3 ['image']"
