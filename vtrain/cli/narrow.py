"""The help on any terminal: lines as wide as it is, which break between words."""

import re
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

WIDEST, NARROWEST = 78, 20
"""Columns of a help page."""
ROOMY = 60
"""Columns from which on a text stands beside its name, and not below it."""


def fit_help(context: Any) -> None:
    """Let the help of a command fit the terminal."""
    columns = shutil.get_terminal_size().columns
    context.terminal_width = max(min(columns - 2, WIDEST), NARROWEST)
    context.formatter_class = _between_words(type(context).formatter_class)


def _between_words(base: Any) -> Any:
    """Return a formatter that cuts no word, neither at a hyphen nor at its end."""

    class BetweenWords(base):  # type: ignore[misc] # of typer's own copy of click
        """Typer's formatter with other lines."""

        def write_text(self, text: str) -> None:
            indent = " " * self.current_indent
            for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
                lines = _wrapped(" ".join(paragraph.split()), self.width - self.current_indent)
                self.write("\n" * (number > 0))
                self.write("".join(f"{indent}{line}\n" for line in lines))

        def write_dl(self, rows: Iterable[tuple[str, str]], *_: Any, **__: Any) -> None:
            rows, indent = list(rows), self.current_indent
            most = 30 if self.width >= ROOMY else 6
            first = min(max(len(name) for name, _ in rows), most) + 2
            for name, text in rows:
                lines = _wrapped(text, self.width - first - indent)
                start = f"{'':{indent}}{name}"
                if len(name) <= first - 2 and lines:
                    start += " " * (first - len(name)) + lines.pop(0)
                rest = (f"{'':{first + indent}}{line}" for line in lines)
                self.write("".join(f"{line}\n" for line in (start, *rest)))

    return BetweenWords


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
