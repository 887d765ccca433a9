"""Overrides that a shell or a blank has torn apart: one slip, one line."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from vtrain.errors import printable

KEY = re.compile(r"[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*")
NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")
CLOSING = {"{": "}", "[": "]"}
LONGEST = 120
"""Characters of a hint that repeats what was typed."""


@dataclass(frozen=True)
class Torn:
    """Words that belong together: how many there are, and how to write them."""

    words: int
    hint: str


def torn_value(words: Sequence[str]) -> Torn | None:
    """Return what the first of some words begins that the next ones belong to, if it does.

    Such as `key={name: x}` and `key: 5` without quotes, and `key = 5`.
    """
    key, equals, value = words[0].partition("=")
    if equals and value[:1] in CLOSING and not _is_closed(value):
        return _mapping(words)
    bare = key.removesuffix(":")
    if value or len(words) < 2 or not KEY.fullmatch(bare):
        return None
    second = words[1]
    if second == "=" and len(words) > 2 and not equals:  # `key = 5`
        return _pair(bare, words[2], 3)
    if second.startswith("=") and second != "=" and not equals:  # `key =5`
        return _pair(bare, second[1:], 2)
    # `key= 5`, `key: 5`, `section.key 5`, and of a word alone only with a number behind it.
    is_key = equals or bare != key or "." in bare or NUMBER.fullmatch(second)
    return _pair(bare, second, 2) if is_key and "=" not in second else None


def _pair(key: str, value: str, words: int) -> Torn:
    text = printable(shlex.quote(f"{key}={value}"))
    is_short = len(text) <= LONGEST
    return Torn(words, f"did you mean {text}?" if is_short else "write KEY=VALUE without blanks")


def _mapping(words: Sequence[str]) -> Torn | None:
    """Return the words up to the one that closes the first one's bracket."""
    for count in range(2, len(words) + 1):
        joined = " ".join(words[:count])
        if _is_closed(joined.partition("=")[2]):
            text = printable(shlex.quote(joined))
            shown = text if len(text) <= LONGEST else "KEY='VALUE'"
            return Torn(count, f"a shell cuts at blanks: write it in quotes, {shown}")
    return None


def _is_closed(value: str) -> bool:
    opened = sum(map(value.count, CLOSING))
    return opened <= sum(map(value.count, CLOSING.values()))
