"""Build the wheel of the tracked files, as a release would."""

import shutil
import subprocess
import sys
from pathlib import Path

BUILD = (
    "from setuptools import build_meta as b; b.build_sdist('dist'); print(b.build_wheel('dist'))"
)
ROOT = Path(__file__).parents[2]


def build_wheel(source: Path) -> Path:
    """Copy the tracked files to a folder, build sdist and wheel there, and return the wheel."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    built = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=True
    )
    return source / "dist" / built.stdout.split()[-1]
