"""Names of files and classes as lines of a picture."""

import textwrap
from collections.abc import Sequence

from vtrain.data.inspect.lettering import runs
from vtrain.errors import printable

WRAP = 34
"""Characters of a title's line."""


def classes_text(classes: Sequence[tuple[str, float]], width: int) -> str:
    """Return a line or more for each class, its name whole."""
    lines = []
    for name, p in classes:
        first, *rest = wrapped(name, width).splitlines()
        lines += [f"{p:6.1%} {first}", *(f"       {line}" for line in rest)]
    return "\n".join(lines)


def wrapped(text: str, width: int = WRAP) -> str:
    """Return text in lines, nothing of it left out, and no character that steers anything.

    A letter that no font of this machine has is written by its number.
    """
    letters = "".join(run for _, run in runs(printable(text)))
    return "\n".join(textwrap.wrap(letters, width, break_on_hyphens=False)) or " "


def two_lines(text: str) -> str:
    """Return two lines of text at most, which a picture of its own shows in full."""
    first, *rest = wrapped(text, 24).splitlines()
    return "\n".join([first, *rest[:1]]) + ("..." if rest[1:] else "")
