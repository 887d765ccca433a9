"""Runs that a measurement consists of, and the folders of images that they train on."""

import subprocess
import sys
from pathlib import Path


def fit(config: str | Path, run: Path, *overrides: str) -> None:
    """Run `vtrain fit`, or go on with it; of a run that is complete it only says so."""
    command = [sys.executable, "-m", "vtrain", "fit", str(config)]
    print(f"--- {run}", file=sys.stderr)
    subprocess.run([*command, "--run-dir", str(run), "--resume", *overrides], check=True)


def link(path: Path, target: Path) -> None:
    """Make `path` a link to `target`, unless it is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target.absolute())
