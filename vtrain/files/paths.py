"""Names of files as people type them."""

from pathlib import Path


def at_home(path: Path | str) -> Path:
    """Return a path that begins with `~` as a shell would read it; any other as it is.

    A shell does so only at the beginning of a word, and so not in `--run-dir=~/x`.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody has that name: a shell leaves it alone, too
        return Path(path)
