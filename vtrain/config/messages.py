"""One line for every mistake, in the words of the config rather than of the validator."""

import json
from typing import Any, get_args

from pydantic import ValidationError

from vtrain.errors import ConfigError
from vtrain.files.yaml import Document, Keys
from vtrain.registry import Section, suggest


def explain(error: ValidationError, document: Document, schema: type[Section]) -> list[ConfigError]:
    """Turn pydantic's findings into one mistake for each key of the document."""
    mistakes: dict[Keys, ConfigError] = {}
    for detail in error.errors(include_url=False, include_context=True):
        keys = _document_keys(detail["loc"], document)
        mistake = _mistake(detail, keys, document, schema)
        before = mistakes.get(keys)
        if before is not None and before.hint != mistake.hint:
            # A union reports each of its members: all of them are allowed.
            hint = f"{before.hint}, or {mistake.hint}".replace(", or must be", " or")
            mistake = ConfigError(before.what, before.where, hint)
        mistakes[keys] = mistake
    return list(mistakes.values())


def _document_keys(location: tuple[int | str, ...], document: Document) -> Keys:
    """Keep the keys of a location that are in the document: pydantic adds the members of unions."""
    value: Any = document.data
    keys: list[int | str] = []
    for depth, key in enumerate(location, start=1):
        if not isinstance(value, dict | list):
            break
        is_last = depth == len(location)
        if isinstance(value, dict) and key not in value and not is_last:
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
    dotted = ".".join(map(str, keys))
    where = document.where(keys)
    if detail["type"] == "extra_forbidden":
        allowed = _allowed(schema, keys[:-1])
        return ConfigError(f"unknown key '{dotted}'", where, suggest(str(keys[-1]), allowed))
    if detail["type"] == "missing" and not isinstance(detail["input"], list):
        return ConfigError(f"missing key '{dotted}'", where, "it has no default; give it a value")
    given = json.dumps(detail["input"], default=str)
    given = given if len(given) <= 60 else given[:57] + "..."
    return ConfigError(f"{dotted} is {given}", where, requirement(detail))


REQUIREMENTS = {  # for kinds of mistakes whose own English says nothing that helps
    "bool_type": "must be true or false",
    "missing": "must have more items",
    "none_required": "null",
    "union_tag_not_found": "needs the key 'name'",
}


WORDS = (  # replaced in this order: the later ones mend what the first one leaves
    ("Input should be a valid ", "must be a "),
    ("Input should be ", "must be "),
    ("an object", "a mapping of keys"),
    ("must be a integer", "must be an integer"),
    ("must be a array", "must be a list"),
)


def requirement(detail: Any) -> str:
    """Say what a key must be, in the words of the config rather than of the validator."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in REQUIREMENTS:
        return REQUIREMENTS[kind]
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "string_pattern_mismatch" and "cuda" in context["pattern"]:
        return "must be auto, cpu, cuda or cuda:N"
    if kind == "union_tag_invalid":
        return suggest(context["tag"], context["expected_tags"].replace("'", "").split(", "))
    text: str = detail["msg"].removeprefix("Value error, ")
    for old, new in WORDS:
        text = text.replace(old, new)
    return text


def _allowed(schema: type[Section], keys: Keys) -> list[str]:
    """Return the keys of the section at `keys`."""
    for key in keys:
        annotation = schema.model_fields[str(key)].annotation
        members = get_args(annotation) or (annotation,)  # a section that may be null is a union
        sections = [m for m in members if isinstance(m, type) and issubclass(m, Section)]
        if not sections:
            return []
        schema = sections[0]
    return list(schema.model_fields)
