"""A folder of generated JPEG files, for comparisons where no photographs are at hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, PER_CLASS = 10, {"train": 1280, "test": 20}
SMALL = ((32, 32),)
LARGE = ((500, 375), (375, 500), (500, 333), (640, 480), (400, 300))
"""Widths and heights on disk. Large images are like ImageNet's on average and differ as photographs
do: a program that decodes images of one size once and keeps them cannot do so here."""


def generate_folder(root: Path, image_size: int) -> str:
    """Write `train/<class>/` and `test/<class>/` and return their folder, once for each size.

    The images are smooth noise with grain, which compresses about as badly as photographs do.
    """
    small = image_size <= 64
    sizes = SMALL if small else LARGE
    folder = root / ("small" if small else "large")
    if folder.exists():
        return str(folder)

    def write(job: tuple[str, int, int]) -> None:
        split, number, index = job
        width, height = sizes[index % len(sizes)]
        # From the image's place alone: any thread may write it.
        draw = np.random.default_rng((number, index, len(split)))
        coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = draw.integers(-12, 13, (height, width, 3))
        pixels = (np.asarray(smooth, dtype=np.int16) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(
            folder / split / f"class{number}" / f"{index:04}.jpg", quality=90
        )

    # Large images in a tenth of the number: decoding them is what counts.
    counts = {split: count if small else count // 10 for split, count in PER_CLASS.items()}
    jobs = []
    for split, count in counts.items():
        for number in range(CLASSES):
            (folder / split / f"class{number}").mkdir(parents=True)
            jobs += [(split, number, index) for index in range(count)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(write, jobs))
    return str(folder)
