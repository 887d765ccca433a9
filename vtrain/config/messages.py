"""One line for every mistake, in the words of the config rather than of the validator."""

import json
import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from pydantic import ValidationError

from vtrain.config.hints import meant, names
from vtrain.config.schema import REGISTRIES
from vtrain.config.words import SEVERAL
from vtrain.errors import ConfigError, shortened
from vtrain.files.yaml import Document, Keys
from vtrain.registry import Section, suggest


def explain(
    error: ValidationError, document: Document, schema: type[Section], but: Collection[Keys] = ()
) -> list[ConfigError]:
    """Turn pydantic's findings into one mistake for each key of the document, `but` for some."""
    mistakes: dict[Keys, ConfigError] = {}
    details = error.errors(include_url=False, include_context=True)
    found = [
        (_document_keys(detail["loc"], document, detail["type"] == "missing"), detail)
        for detail in details
    ]
    # A slip of the pen is an unknown key and a missing one: the first says all that there is.
    slips = [keys for keys, detail in found if detail["type"] == "extra_forbidden"]
    named = [key for keys in slips for key in meant(keys, schema, document.data)[0]]
    replaced = _of_replaced(slips, document)
    for keys, detail in found:
        if keys in but or keys in replaced or (_is_missing(detail) and _holds(keys, named)):
            continue
        mistakes[keys] = _joined(mistakes.get(keys), _mistake(detail, keys, document, schema))
    mistakes |= {keys: mistake for keys, mistake in replaced.items() if mistake is not None}
    # A union's other members refuse the whole of a value of which one member refuses a part.
    return [mistake for keys, mistake in mistakes.items() if not _has_part(keys, mistakes)]


def _holds(keys: Keys, named: Iterable[str]) -> bool:
    """Return whether one of the dotted keys is this one, or in it."""
    dotted = ".".join(map(str, keys))
    return any(f"{key}.".startswith(f"{dotted}.") for key in named)


def _joined(before: ConfigError | None, mistake: ConfigError) -> ConfigError:
    """Return one mistake for two about the same key."""
    if before is None or before.hint == mistake.hint:
        return mistake
    # A union reports each of its members: all of them are allowed.
    hint = f"{before.hint}, or {mistake.hint}".replace(", or must be", " or")
    return ConfigError(before.what, before.where, hint)


def _of_replaced(slips: Iterable[Keys], document: Document) -> dict[Keys, ConfigError | None]:
    """Return keys of the file that a component chosen on the command line lacks.

    It is one mistake, at the first of them in each section, whatever their number.
    """
    found: dict[Keys, list[Keys]] = {}
    for keys in slips:
        section, registry = keys[:-1], REGISTRIES.get(keys[:-1])
        if registry is None or (*section, "name") not in document.places or keys in document.places:
            continue
        if any(keys[-1] in registry[name].fields() for name in registry.names()):
            found.setdefault(section, []).append(keys)
    mistakes: dict[Keys, ConfigError | None] = {}
    for section, all_keys in found.items():
        mistakes |= dict.fromkeys(all_keys)
        mistakes[all_keys[0]] = _replaced(section, all_keys, document)
    return mistakes


def _replaced(section: Keys, all_keys: list[Keys], document: Document) -> ConfigError:
    dotted, value = ".".join(map(str, section)), document.data
    for key in section:
        value = value[key]  # type: ignore[index] # a name in it was read
    lacks = ", ".join(f"{dotted}.{keys[-1]}" for keys in all_keys[:5])
    more = f" and {len(all_keys) - 5} more" if len(all_keys) > 5 else ""
    return ConfigError(
        f"{value['name']} has no key {lacks}{more}, as the {dotted} of the file has",
        document.where(all_keys[0]),
        f"write {dotted}={{name: {value['name']}}} to leave that with its keys out",
    )


def _has_part(keys: Keys, mistakes: Iterable[Keys]) -> bool:
    return any(len(other) > len(keys) and other[: len(keys)] == keys for other in mistakes)


def _document_keys(location: tuple[int | str, ...], document: Document, missing: bool) -> Keys:
    """Keep the keys of a location that are in the document: pydantic adds the members of unions.

    The last one need not be there if it is what is `missing`.
    """
    value: Any = document.data
    keys: list[int | str] = []
    for depth, key in enumerate(location, start=1):
        if not isinstance(value, dict | list):
            break
        absent = missing and depth == len(location)
        if isinstance(value, dict) and key not in value and not absent:
            continue  # the name of a union's member
        if isinstance(value, list):
            if not isinstance(key, int):
                continue  # likewise
            if key >= len(value):
                break  # an item that is missing: the list is to blame
        keys.append(key)
        value = value.get(key) if isinstance(value, dict) else value[int(key)]
    return tuple(keys)


def _mistake(detail: Any, keys: Keys, document: Document, schema: type[Section]) -> ConfigError:
    dotted = shortened(".".join(map(str, keys)))
    where = document.where(keys)
    if detail["type"] == "extra_forbidden":
        _, hint = meant(keys, schema, document.data)
        return ConfigError(f"unknown key '{dotted}'", where, hint)
    if _is_missing(detail):
        return ConfigError(f"missing key '{dotted}'", where, needed(keys))
    given = shortened(json.dumps(detail["input"], default=str, ensure_ascii=False), 60)
    return ConfigError(f"{dotted} is {given}", where, requirement(detail, keys))


def _is_missing(detail: Any) -> bool:
    return detail["type"] == "missing" and not isinstance(detail["input"], list)


EXAMPLES: dict[Keys, str] = {
    ("model",): "a config names one, such as model: {name: vit_s}",
    ("data",): "a config names the images, such as data: {name: image_folder, root: photos}",
    ("optimizer",): "it has no default; write for example optimizer: {name: adamw, lr: 1e-3}",
    ("optimizer", "lr"): "it has no default, as it depends on all else; 1e-3 is a start for adamw",
    ("train",): "it has no default; write for example train: {epochs: 100}",
    ("train", "epochs"): "it has no default; give it a number, such as 100",
}
"""What to write where a key is missing that most configs begin with."""


def needed(keys: Keys) -> str:
    """Say what to write where a key is missing."""
    registry = REGISTRIES.get(keys[:-1]) if keys[-1] == "name" else None
    if registry is not None:
        return f"choose one of {names(registry.names())}"
    return EXAMPLES.get(keys, "it has no default; give it a value")


REQUIREMENTS = {  # for kinds of mistakes whose own English says nothing that helps
    "bool_type": "must be true or false",
    "missing": "must have more items",
    "none_required": "null",
    "union_tag_not_found": "needs the key 'name'",
}


NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+([eE][-+]?[0-9]+)?")
WORDS = (  # replaced in this order: the later ones mend what the first one leaves
    ("Input should be a valid ", "must be a "),
    ("Input should be ", "must be "),
    ("an object", "a mapping of keys"),
    ("must be a integer", "must be an integer"),
    ("must be a array", "must be a list"),
)


def requirement(detail: Any, keys: Keys = ()) -> str:
    """Say what a key must be, in the words of the config rather than of the validator."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in REQUIREMENTS:
        return REQUIREMENTS[kind]
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if keys == ("model", "pretrained"):
        return "must be a file, a run folder, hf-hub:OWNER/NAME of the hub, or timm:NAME"
    if keys == ("train", "device") or "cuda" in str(context.get("pattern")):
        given = str(detail["input"]).lower()
        more = f"; {SEVERAL}" if "," in given else ""
        if given.isdecimal() and len(given) <= 3:
            more = f"; the GPU of number {given} is cuda:{given}"
        elif given.startswith("gpu"):
            more = ": did you mean cuda?"
        return f"must be auto, cpu, cuda or cuda:N{more}"
    if kind == "union_tag_invalid":
        return suggest(context["tag"], context["expected_tags"].replace("'", "").split(", "))
    text: str = detail["msg"].removeprefix("Value error, ")
    for old, new in WORDS:
        text = text.replace(old, new)
    return text + _mended(kind, detail["input"])


def _mended(kind: str, given: Any) -> str:
    """Say how to write a text where a number should be, if it is nearly one."""
    if kind not in ("int_type", "float_type") or not isinstance(given, str):
        return ""
    if NUMBER.fullmatch(given):
        is_finite = math.isfinite(float(given))  # YAML leaves 1e400 as text
        return ": write it without quotes" if is_finite else ", and this one is too large"
    if DECIMAL_COMMA.fullmatch(given):
        return f": write a point for the comma, {given.replace(',', '.')}"
    return ""
