"""Overrides that a shell or a blank has torn apart: one slip, one line."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from vtrain.errors import printable

KEY = re.compile(r"[a-z_][a-z_0-9]*(?:\.[a-z_][a-z_0-9]*)*")
PAIR = re.compile(rf"({KEY.pattern}): *([^=]+)")
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
    _, equals, value = words[0].partition("=")
    if equals and value[:1] in CLOSING and not _is_closed(value):
        return _mapping(words)
    pair = PAIR.fullmatch(words[0])
    return _pair(pair[1], pair[2], 1) if pair else _cut_pair(words)


def _cut_pair(words: Sequence[str]) -> Torn | None:
    """Read `key= 5`, `key: 5` and `key 5`, which a shell gives as several words."""
    key, equals, value = words[0].partition("=")
    bare, others = key.removesuffix(":"), words[1:]
    if value or not others or not KEY.fullmatch(bare):
        return None
    if not equals and others[0].startswith("="):
        return _behind_a_sign(bare, others)
    # `key= 5`, `key: 5`, `section.key 5`, and of a word alone only with a number behind it.
    is_key = equals or bare != key or "." in bare or NUMBER.fullmatch(others[0])
    return _pair(bare, others[0], 2) if is_key and "=" not in others[0] else None


def _behind_a_sign(key: str, others: Sequence[str]) -> Torn | None:
    """Read `key =5` and `key = 5`."""
    if others[0] != "=":
        return _pair(key, others[0][1:], 2)
    return _pair(key, others[1], 3) if len(others) > 1 else None


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
