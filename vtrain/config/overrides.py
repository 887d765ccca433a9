"""What stands on the command line, and values that are not what YAML takes them for."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vtrain.config.hints import wants_text
from vtrain.config.retired import COMMAND_LINE
from vtrain.config.schema import REGISTRIES
from vtrain.config.sections import Config
from vtrain.config.torn import torn_value
from vtrain.errors import ConfigError, printable, shortened
from vtrain.files.yaml import Document, Keys, parse_value

SMALLEST, LARGEST = -(2**63), 2**63 - 1


def apply_overrides(document: Document, overrides: Iterable[str]) -> dict[Keys, ConfigError]:
    """Write overrides into the raw document, and return what is no YAML: the value is its text.

    Whether its key wants a text is known only when all overrides are.
    """
    unread: dict[Keys, ConfigError] = {}
    rest = list(overrides)
    while rest:
        torn = torn_value(rest)
        if torn is None:
            _apply(document, rest.pop(0), unread)
            continue
        name = f"{COMMAND_LINE} '{shortened(' '.join(rest[: torn.words]))}'"
        document.mistakes.append(ConfigError("not an override", name, torn.hint))
        del rest[: torn.words]
    return unread


def _apply(document: Document, override: str, unread: dict[Keys, ConfigError]) -> None:
    """Write `dotted.key=value` into the raw document; its mistakes join the others."""
    name = f"{COMMAND_LINE} '{shortened(override)}'"
    dotted, equals, text = override.partition("=")
    if dotted.endswith(" "):  # `key = value`, in quotes
        dotted, text = dotted.strip(), text.strip()
    keys = tuple(dotted.split("."))
    if not equals or not all(keys):
        document.mistakes.append(ConfigError("not an override", name, _instead(override)))
        return
    section = _section_above(document, keys, name)
    if section is None:
        return
    unread.pop(keys, None)  # of two overrides of one key the last counts
    try:
        value = parse_value(text, name)
    except ConfigError as error:
        value, unread[keys] = text, error
    if keys in REGISTRIES and isinstance(value, str):
        # Another component, as with `model.name`: what the file says beside its name stays.
        before = section.get(keys[-1])
        value = {**(before if isinstance(before, dict) else {}), "name": value}
        document.places[(*keys, "name")] = name
    elif isinstance(value, dict):  # nothing in it is of the file
        for known in (document.places, document.lines):
            for inner in [place for place in known if place[: len(keys)] == keys]:
                del known[inner]
    section[keys[-1]] = value
    document.texts[keys] = text
    document.places[keys] = name  # its mistakes name the command line, not the file


def _instead(word: str) -> str:
    """Say what to write instead of a word that is no override."""
    if os.path.isdir(word):  # noqa: PTH112 - a name too long for a file is none
        return f"did you mean {printable(shlex.quote(f'data.root={word}'))}?"
    return "write KEY=VALUE, for example train.epochs=5"


def remember(document: Document, values: Mapping[str, Any]) -> None:
    """Write values by dotted key into the raw document: what a run was started with."""
    for dotted, value in values.items():
        keys, name = tuple(dotted.split(".")), f"the run's own {dotted}"
        section = _section_above(document, keys, name)
        if section is not None:
            section[keys[-1]] = value
            document.places[keys] = name


def _section_above(document: Document, keys: tuple[str, ...], name: str) -> dict[str, Any] | None:
    """Return the section that holds a key; a mistake joins the others if there can be none."""
    section = document.data
    # Sections on the way are made where the file has none: `train.loss.name=focal` needs no `loss`.
    for depth, key in enumerate(keys[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
            document.places.setdefault(keys[:depth], name)
        elif isinstance(section[key], str):  # a component by its name alone: `policy: augmix`
            section[key] = {"name": section[key]}
        section = section[key]
        if not isinstance(section, dict):
            dotted = shortened(".".join(keys))
            what = f"'{dotted}' leads through '{shortened(key)}', which is no section"
            document.mistakes.append(ConfigError(what, name))
            return None
    return section


def name_components(document: Document) -> None:
    """Write `{name: swin_t}` for `swin_t` wherever a name chooses what else a section may have."""
    for keys in REGISTRIES:
        *path, last = map(str, keys)
        parent: Any = document.data
        for key in path:
            parent = parent.get(key) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and isinstance(parent.get(last), str):
            parent[last] = {"name": parent[last]}


def keep_texts(
    document: Document, schema: type[Config], unread: dict[Keys, ConfigError]
) -> dict[Keys, ConfigError]:
    """Take values as the text they are where a key wants text, such as a folder called 2024.

    YAML reads numbers, `true` and null, and on the command line comments, lists and more. Returns
    what is left of `unread`.
    """
    for keys, text in document.texts.items():
        parent: Any = document.data
        for key in keys[:-1]:
            parent = parent.get(key) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and keys[-1] in parent and wants_text(schema, keys):
            may_be_null = not wants_text(schema, keys, or_null=False)
            is_typed = document.places.get(keys, "").startswith(COMMAND_LINE)
            parent[keys[-1]] = _as_text(parent[keys[-1]], text, is_typed, may_be_null)
    return {keys: error for keys, error in unread.items() if not wants_text(schema, keys)}


def _as_text(value: Any, text: str, is_typed: bool, may_be_null: bool) -> Any:
    """Return the text of a value, unless that says null, is quoted, or is none."""
    if value is None and (may_be_null or not is_typed) and text in ("", "~", "null"):
        return value
    # Quoted on the command line: YAML has taken the quotes away, which were not meant.
    if isinstance(value, str) and text[0] in "'\"" and text[0] == text[-1] != value[:1]:
        return value
    return text or value


def too_large(document: Document) -> dict[Keys, ConfigError]:
    """Return what is wrong with whole numbers of more than 64 bits, which torch has no type for."""
    return {
        keys: ConfigError(
            f"{'.'.join(map(str, keys))} is {shortened(str(number), 40)}",
            document.where(keys),
            f"must be at most {LARGEST}" if number > 0 else f"must be at least {SMALLEST}",
        )
        for keys, number in _numbers(document.data, ())
        if not SMALLEST <= number <= LARGEST
    }


def _numbers(value: Any, keys: Keys) -> Iterator[tuple[Keys, int]]:
    """Yield every whole number of a document, with the keys that lead to it."""
    if isinstance(value, int):
        yield keys, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(inner, (*keys, key))
