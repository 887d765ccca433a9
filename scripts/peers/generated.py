"""A folder of generated JPEG files, for comparisons where no photographs are at hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, PER_CLASS = 10, {"train": 1280, "test": 20}
STORED = {True: (32, 32), False: (500, 375)}
"""Width and height on disk: small images as they are, large ones as ImageNet's average."""


def generate_folder(root: Path, image_size: int) -> str:
    """Write `train/<class>/` and `test/<class>/` and return their folder, once for each size.

    The images are smooth noise with grain, which compresses about as badly as photographs do.
    """
    small = image_size <= 64
    width, height = STORED[small]
    folder = root / f"{width}x{height}"
    if folder.exists():
        return str(folder)

    def write(job: tuple[str, int, int]) -> None:
        split, number, index = job
        draw = np.random.default_rng((number, index, len(split)))
        coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = draw.integers(-12, 13, (height, width, 3))
        pixels = (np.asarray(smooth, dtype=np.int16) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(
            folder / split / f"class{number}" / f"{index:04}.jpg", quality=90
        )

    counts = {split: count if small else count // 10 for split, count in PER_CLASS.items()}
    jobs = []
    for split, count in counts.items():
        for number in range(CLASSES):
            (folder / split / f"class{number}").mkdir(parents=True)
            jobs += [(split, number, index) for index in range(count)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, jobs))
    return str(folder)
