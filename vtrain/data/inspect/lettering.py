r"""Text in pictures, in every script that a font of this machine has; never as empty boxes.

Pillow's own font has the letters of ASCII alone. matplotlib brings DejaVu Sans (Latin, Greek,
Cyrillic, Arabic and more); for others the system's fonts are searched. A letter that none has is
written by its number, such as \u732b.
"""

import unicodedata
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

from vtrain.errors import printable

FACES = ("Regular", "Bold", "Italic", "Oblique", "Mono", "Serif")
"""What a file's name says of a font: the first is wanted, the others are not."""


def draw_line(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, size: int) -> None:
    """Draw a line of text, black, into a row of `size` pixels and a little more."""
    text = printable(text)
    if text.isascii():
        draw.text((left, top), text, fill="black", font=ImageFont.load_default(size))
        return
    at = float(left)
    for path, run in runs(text):
        # On one base line: fonts differ in how far above it they begin.
        font = ImageFont.truetype(path, size)
        draw.text((at, top + size), run, fill="black", font=font, anchor="ls")
        at += font.getlength(run)


def runs(text: str) -> list[tuple[str, str]]:
    """Split text into pieces, each with the file of a font that has all of its letters."""
    first = _fonts()[0]
    letters: list[tuple[str, str]] = []
    for letter in text:
        before = letters[-1][0] if letters else first
        # A blank, an accent or a joiner belongs to the letter before it.
        joins = unicodedata.category(letter) in {"Zs", "Cf", "Mn", "Mc"}
        path = before if joins and ord(letter) in _letters(before) else font_of(letter)
        if path is None and unicodedata.category(letter) == "Cf":
            continue  # invisible anyway
        letters += [(first, c) for c in _number(letter)] if path is None else [(path, letter)]
    return [
        (path, "".join(c for _, c in group)) for path, group in groupby(letters, lambda x: x[0])
    ]


@cache
def font_of(letter: str) -> str | None:
    """Return the file of the first font that has a letter, or None if none can draw it rightly."""
    # Written from the right, and joined: only a layout engine does that.
    shaped = unicodedata.bidirectional(letter) in {"R", "AL"}
    if shaped and not (features.check("raqm") and features.check("fribidi")):
        return None
    return next((path for path in _fonts() if ord(letter) in _letters(path)), None)


def _number(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()


@cache
def _fonts() -> tuple[str, ...]:
    """Return the files of all fonts: matplotlib's own first, then the system's plain ones."""
    import matplotlib as mpl
    from matplotlib import font_manager

    own = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")

    def plainness(path: str) -> tuple[int, str]:
        name = Path(path).stem
        wanted, *others = FACES
        return sum(face in name for face in others) - (wanted in name), name

    # Asked of the folders themselves: matplotlib's list of fonts may be older than a new font.
    return (str(own), *sorted(font_manager.findSystemFonts(), key=plainness))


@cache
def _letters(path: str) -> frozenset[int]:
    """Return the letters that a font has; none where it cannot be used, as those of pictures."""
    from matplotlib import ft2font

    try:
        ImageFont.truetype(path, 11)
        return frozenset(ft2font.FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
