"""Images with several labels each that a small model learns in seconds, and a run on them."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")
MULTI_LABEL_RUN = """\
seed: 0
model: {name: vit_ti, patch_size: 2, embed_dim: 16, depth: 1, num_heads: 2}
data: {name: csv, file: LIST, image_size: 8, label_separator: ";", allow_empty: true}
optimizer: {name: adamw, lr: 1e-2}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 20, batch_size: 30, loss: binary_cross_entropy, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""


def labelled(folder: Path, train: int = 120, val: int = 60) -> Path:
    """Write dark noise in whose three colours squares shine; return the list of their names."""
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(train + val):
        pixels = rng.integers(0, 100, (8, 8, 3), np.uint8)
        labels = []
        for channel, name in ((2, "blue"), (1, "green"), (0, "red")):
            if rng.random() < 0.4:
                top, left = rng.integers(0, 5, 2)
                pixels[top : top + 4, left : left + 4, channel] = 255
                labels.append(name)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        split = "train" if number < train else "val"
        lines.append(f"{number}.png,{';'.join(labels)},{split}")
    file = folder / "list.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def config_of(folder: Path) -> Path:
    """Write the run's config beside the images."""
    file = folder / "squares.yaml"
    file.write_text(MULTI_LABEL_RUN.replace("LIST", str(labelled(folder))))
    return file
