"""Image files for tests of datasets."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image


def plant(root: Path, *names: str) -> Path:
    """Write small images at `root`, each of its own colour, and other files as text."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in {".png", ".jpg"}:
            Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(path)
        else:
            path.write_text("text")
    return root


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Give a folder to a user whom permissions bind, and become that user until the end."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if user == 0:
                os.seteuid(0)


def plant_photographs(counts: dict[str, dict[str, int]]) -> None:
    """Write noise to photos/SPLIT/CLASS/NUMBER.png, as many as `counts[split][class]` says."""
    draw = torch.Generator().manual_seed(0)
    for split, classes in counts.items():
        for label, count in classes.items():
            folder = Path("photos", split, label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(256, (16, 16, 3), generator=draw).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / f"{number}.png")


def over_photographs(config: str) -> str:
    """Return a config with its data replaced by the folder `photos`."""
    data = "data: {name: image_folder, root: photos, image_size: 16}"
    lines = config.splitlines()
    return "\n".join(data if line.startswith("data:") else line for line in lines)
