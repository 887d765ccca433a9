"""Names of files as people type them."""

from pathlib import Path


def unused(path: Path) -> Path:
    """Return a path at which there is nothing: this one, or `name_2.png`, `name_3.png`, ..."""
    number, found = 1, path
    while found.exists() or found.is_symlink():
        number += 1
        found = path.with_stem(f"{path.stem}_{number}")
    return found


def at_home(path: Path | str) -> Path:
    """Return a path that begins with `~` as a shell would read it; any other as it is.

    A shell does so only at the beginning of a word, and so not in `--run-dir=~/x`.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has that name: a shell leaves it alone, too
        return Path(path)
