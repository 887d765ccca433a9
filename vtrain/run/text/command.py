"""Command lines that a person can paste as they are."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from vtrain.errors import printable


def argument(path: Path) -> str:
    """Return a path as a shell takes it, whatever it is called."""
    text = str(path)
    # A name that begins with a dash would be taken for an option.
    return printable(shlex.quote(f"./{text}" if text.startswith("-") else text))


def quoted(override: str) -> str:
    """Return an override as a shell takes it."""
    return printable(shlex.quote(override))


def literal(text: str) -> str:
    """Return a text as Python reads it, whatever is in it."""
    return printable(json.dumps(text, ensure_ascii=False))


def resume_command(run_dir: Path, overrides: Iterable[str] = ()) -> str:
    """Return the command that goes on with a run."""
    return " ".join(["vtrain fit", argument(run_dir), "--resume", *map(quoted, overrides)])


def at_step(step: object) -> str:
    """Return words for a checkpoint's step, which averaged or calibrated weights do not have."""
    return "no step" if step is None else f"step {step}"
