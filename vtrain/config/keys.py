"""Every key of a config, one record each: what `vtrain keys` and the reference page show."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vtrain.config.json_schema import raw_schema


@dataclass
class Key:
    """One key, and what it is for each component that has it."""

    name: str
    """With its section: `optimizer.lr`."""
    optional_section: str = ""
    """The section that is off unless it is given, where the key is in one."""
    variants: dict["Variant", list[str]] = field(default_factory=dict)
    """What the key is, and for which components; several where their defaults differ."""

    @property
    def main(self) -> "Variant":
        """What most of the components say."""
        return max(self.variants, key=lambda variant: len(self.variants[variant]))

    @property
    def default(self) -> str:
        """The default as YAML, or why there is no single one."""
        defaults = {variant.default for variant in self.variants}
        return defaults.pop() if len(defaults) == 1 else "by name"


@dataclass(frozen=True)
class Variant:
    """A key as one or more components declare it."""

    type: str
    """In words: `integer, at least 1`."""
    default: str
    """As YAML; `required` where there is none."""
    meaning: str
    """From the docstring or the type that declares it."""


@cache
def all_keys() -> dict[str, Key]:
    """Return every key by its dotted name, in the order of the sections."""
    schema = raw_schema()
    found: dict[str, Key] = {}
    for name, component, node, is_required, section in _walk(schema, schema["$defs"]):
        default = "required" if is_required else _yaml(node.get("default"))
        text = node.get("description") or _text_of_members(node)
        meaning = " ".join(text.replace("`", "").split())
        variant = Variant(in_words(node, schema["$defs"]), default, meaning)
        found.setdefault(name, Key(name, section)).variants.setdefault(variant, []).append(
            component
        )
    return {name: _with_names(key) for name, key in found.items()}


def _walk(
    node: Any, definitions: Any, prefix: str = "", optional: str = ""
) -> Iterator[tuple[str, str, Any, bool, str]]:
    """Yield (dotted name, component, schema, is required, optional section) of each plain key.

    A choice among components yields the keys of each.
    """
    for key, value in node.get("properties", {}).items():
        sections = list(_sections(value, definitions))
        if not sections:
            component = node["properties"].get("name", {}).get("const", "")
            yield prefix + key, component, value, key in node.get("required", []), optional
        # A section that may be null is off unless it is given; so is all that is in it.
        is_off = {"type": "null"} in value.get("anyOf", [])
        for section in sections:
            off = prefix + key if is_off else optional
            yield from _walk(section, definitions, f"{prefix}{key}.", off)


def _sections(node: Any, definitions: Any) -> Iterator[Any]:
    """Yield the sections that a key may hold; none if it holds a plain value."""
    if "$ref" in node:
        yield definitions[node["$ref"].rpartition("/")[2]]
    for member in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _sections(member, definitions)


def _text_of_members(node: Any) -> str:
    """Return the description that pydantic left at a member of a union with null."""
    texts = (member.get("description", "") for member in node.get("anyOf", ()))
    return next(filter(None, texts), "")


def _with_names(key: Key) -> Key:
    """Let the key `name` be one choice among all components, in place of one constant each."""
    if not key.name.endswith(".name"):
        return key
    names = [name for names in key.variants.values() for name in names if name]
    if not names:
        return key
    # One component may stand for a section without a name; where each has its own, none does.
    defaults = [variant.default for variant in key.variants if variant.default != "required"]
    default = defaults[0] if len(defaults) == 1 else "required"
    what = key.name.removesuffix(".name")
    meaning = f"Which {what.rpartition('.')[2]}; it decides which other keys the section has."
    return Key(
        key.name,
        key.optional_section,
        {Variant("one of " + ", ".join(names), default, meaning): [""]},
    )


def in_words(node: Any, definitions: Any) -> str:
    """Say what a key takes in words: its type, range and choices."""
    if "$ref" in node:
        return in_words(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if members := node.get("anyOf") or node.get("oneOf"):
        return " or ".join(dict.fromkeys(in_words(member, definitions) for member in members))
    if choices := node.get("enum", [node["const"]] if "const" in node else []):
        return "one of " * (len(choices) > 1) + ", ".join(map(_yaml, choices))
    if node.get("type") == "array":
        return _list_in_words(node, definitions)
    # The one pattern of a config, as a regular expression says little to a person.
    if "cuda" in node.get("pattern", ""):
        return "auto, cpu, cuda or cuda:N"
    kind = str(node.get("type", "anything"))
    return WORDS.get(kind, kind) + _range(node)


WORDS = {
    "boolean": "true or false",
    "string": "text",
    "object": "a mapping of keys",
}


def _list_in_words(node: Any, definitions: Any) -> str:
    if "prefixItems" in node:
        items = [in_words(item, definitions) for item in node["prefixItems"]]
        return f"list of {len(items)}: {items[0]}" if len(set(items)) == 1 else ", ".join(items)
    return f"list of: {in_words(node.get('items', {}), definitions)}"


def _range(node: Any) -> str:
    """Return the bounds of a number, in mathematicians' brackets where both are given."""
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    left = "" if low is None and above is None else f"[{low}" if above is None else f"({above}"
    right = "" if high is None and below is None else f"{high}]" if below is None else f"{below})"
    if left and right:
        return f" in {left}, {right}"
    if left:
        return f", at least {low}" if above is None else f" above {above}"
    if right:
        return f", at most {high}" if below is None else f" below {below}"
    return ""


def _yaml(value: Any) -> str:
    """Return a plain value as a YAML file has it, on one line."""
    return value if isinstance(value, str) and value else json.dumps(value)
