"""Read and write YAML strictly: what YAML forgives in silence is refused here, with its line.

PyYAML reads `1e-3` as text, `010` as 8, `12:30` as 750, `no` as false and keeps the last of two
equal keys. Here a plain scalar is null, true or false, a decimal integer, a finite float, or else
text; keys are unique text; tags, anchors, aliases, deep nesting and huge files are refused. Only
PyYAML's parser is used, never its constructors, so that nothing in a file can build an object.
"""

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vtrain.errors import ConfigError, shortened

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,3999})")  # Python reads up to 4300 digits
FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}

HINTS = {
    r"character '\t'": "indent with blanks, not with tabs",
    "escape sequence": "write a path of Windows in single quotes, which leave `\\` as it is",
    "unknown escape": "write a path of Windows in single quotes, which leave `\\` as it is",
    "mapping values are not allowed": "a blank belongs behind each `:`, and a text that holds `: ` "
    "in quotes",
    "expected ',' or": "is a comma missing, or a bracket left open?",
    "found '<block mapping start>'": "indent what belongs together alike",
    "expected <block end>": "indent what belongs together alike",
    "that cannot start any token": "put the value in quotes",
    "unexpected end of stream": "is a quote left open?",
}
"""A part of what PyYAML says -> what mends it."""

Keys = tuple[str | int, ...]
"""The path of a value: the keys and list positions that lead to it."""


@dataclass(frozen=True)
class Document:
    """A mapping read from YAML, the line of each of its values, and the mistakes found so far."""

    name: str
    data: dict[str, Any]
    lines: dict[Keys, int] = field(default_factory=dict)
    mistakes: list[ConfigError] = field(default_factory=list)
    places: dict[Keys, str] = field(default_factory=dict)
    """Where a value comes from, when that is not the file."""
    texts: dict[Keys, str] = field(default_factory=dict)
    """What was written where a number, `true` or null was read: a folder may be called 2024."""

    def where(self, keys: Keys) -> str:
        """Return `file:line` of a value, or of the nearest one that encloses it."""
        while keys:
            if keys in self.places:
                return self.places[keys]
            if keys in self.lines:
                return f"{self.name}:{self.lines[keys]}"
            keys = keys[:-1]
        return self.name


def read_yaml(path: Path, name: str | None = None) -> Document:
    """Read one mapping from a file; `name` is what messages call it, if not by its path.

    Raises:
        ConfigError: The file is absent, is no UTF-8 text, is too large, or is not YAML.
    """
    if not path.is_file():
        problem = "is not a regular file" if path.exists() else "was not found"
        raise ConfigError(
            f"the config {problem}", path, "give a YAML file, a run folder or a folder of images"
        )
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)  # one more byte than allowed shows that there are more
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"the config cannot be read: {error.strerror}", path) from None
    except UnicodeDecodeError:
        raise ConfigError("the config is not UTF-8 text", path, "save it as UTF-8") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"the config is larger than {MAX_BYTES} bytes", path)
    return parse_yaml(text, str(path) if name is None else name)


def parse_yaml(text: str, name: str) -> Document:
    """Read one mapping from text; `name` is what messages call it."""
    read = _parsed(text, name)
    # A copy: overrides change it, and more mistakes are found.
    data, mistakes = deepcopy(read.data), list(read.mistakes)
    return Document(name, data, dict(read.lines), mistakes, texts=dict(read.texts))


@lru_cache(maxsize=4)  # the stored config of a run is read three times by an evaluation
def _parsed(text: str, name: str) -> Document:
    reader = _Reader(name)
    data = reader.read(text)
    if not isinstance(data, dict):
        given = shortened(repr(data))  # of what may be any file, with anybody's data
        what = {list: "a list", type(None): "nothing"}.get(type(data), given)
        hint = "`vtrain recipes` lists configs to begin with"
        raise ConfigError(f"expected a mapping of sections, found {what}", name, hint)
    return Document(name, data, reader.lines, reader.mistakes, texts=reader.texts)


def parse_value(text: str, name: str) -> Any:
    """Read a single value, such as the right side of `train.epochs=5`."""
    reader = _Reader(name)
    value = reader.read(text)
    if reader.mistakes:
        raise ConfigError.all_of(reader.mistakes)
    return value


def dump_yaml(data: dict[str, Any]) -> str:
    """Write plain data as YAML that `parse_yaml` reads back as equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def plain_scalar(text: str) -> Any:
    """Return what an unquoted scalar means: null, a bool, a number or text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INT.fullmatch(text):
        return int(text)
    # 1e999 is text: an infinity would pass every check of a range from below.
    if FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


class _Reader:
    """Build plain data from parser events, keeping lines and mistakes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Keys, int] = {}
        self.mistakes: list[ConfigError] = []
        self.texts: dict[Keys, str] = {}

    def read(self, text: str) -> Any:
        try:
            events = yaml.parse(text, Loader=yaml.SafeLoader)
            next(events)  # the stream's start
            # Then each document's start, value and end; an empty file has none.
            if isinstance(next(events), yaml.StreamEndEvent):
                return None
            value = self._value(next(events), events, ())
            next(events)  # the document's end
            if not isinstance(next(events), yaml.StreamEndEvent):
                raise ConfigError("expected one YAML document, found several", self.name)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{self.name}:{mark.line + 1}:{mark.column + 1}" if mark else self.name
            problem = error.problem or "it ends too early"
            hint = next((hint for part, hint in HINTS.items() if part in problem), None)
            raise ConfigError(f"YAML syntax: {problem}", where, hint) from None
        except yaml.YAMLError:
            raise ConfigError(
                "the file holds characters that YAML does not allow", self.name
            ) from None
        return value

    def _value(self, event: Any, events: Iterator[yaml.Event], keys: Keys) -> Any:
        self.lines.setdefault(keys, _line(event))  # of a key, `_mapping` has noted its line
        # An error and not a mistake: our own recursion goes as deep as the file says.
        if len(keys) > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", self._where(event))
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._mistake("anchors and aliases are not allowed", event, "write the value out")
        if isinstance(event, yaml.AliasEvent):
            return None
        if event.tag is not None:
            self._mistake(
                f"the tag '{shortened(event.tag)}' is not allowed", event, "write a plain value"
            )
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, keys)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, keys)
        value = self._scalar(event)
        if not isinstance(value, str):
            self.texts[keys] = event.value
        return value

    def _mapping(self, events: Iterator[yaml.Event], keys: Keys) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise ConfigError("a key must be plain text", self._where(event))
            key = event.value
            if key in mapping:
                first = self.lines[(*keys, key)]
                self._mistake(
                    f"key '{shortened('.'.join(map(str, (*keys, key))))}' appears twice",
                    event,
                    f"remove one; the first is in line {first}",
                )
            else:
                self.lines[(*keys, key)] = _line(event)
            value = self._value(next(events), events, (*keys, key))
            mapping.setdefault(key, value)  # of two equal keys the first, whose line is noted
        return mapping

    def _sequence(self, events: Iterator[yaml.Event], keys: Keys) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._value(event, events, (*keys, len(items))))
        return items

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        if event.value.encode("utf-8", "ignore").decode() != event.value:  # a lone surrogate
            self._mistake("the text is not valid Unicode", event)
            return None
        # Quoted or in a block it is text, whatever it looks like.
        return plain_scalar(event.value) if event.style is None else event.value

    def _mistake(self, what: str, event: yaml.Event, hint: str | None = None) -> None:
        self.mistakes.append(ConfigError(what, self._where(event), hint))

    def _where(self, event: yaml.Event) -> str:
        return f"{self.name}:{_line(event)}"


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "the parser marks every event"
    return event.start_mark.line + 1


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which `plain_scalar` would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(plain_scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
