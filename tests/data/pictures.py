"""Image files for tests of datasets."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
