"""The JSON Schema of a config file, for editors and `vtrain keys`: every key of any component.

It is made of the same signatures that a run is checked against. A run's own schema has the keys of
the components it names; this one has those of all.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import GenerateJsonSchema

from vtrain.config.schema import SECTIONS, SectionSchema
from vtrain.config.sections import Config, TrainSection
from vtrain.registry import Component, Section

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a config file, as plain data."""
    schema = raw_schema()
    rewritten: dict[str, Any] = _for_editors(schema, schema["$defs"])
    return {"$schema": DIALECT, "title": "vtrain config"} | rewritten


@cache
def raw_schema() -> Any:
    """Return the same as pydantic writes it: a section is any of its components' sections."""
    fields: dict[str, dict[str, Any]] = {"": {}, "train": {}}
    for section in SECTIONS:
        *parents, key = map(str, section.keys)
        owner = TrainSection if parents else Config
        fields["".join(parents)][key] = _field(section, owner)
    train = create_model("train", __base__=TrainSection, __doc__="", **fields["train"])
    whole = create_model("Config", __base__=Config, __doc__="", train=(train, ...), **fields[""])
    return whole.model_json_schema(schema_generator=_Described)


def _field(section: SectionSchema, owner: type[Section]) -> tuple[Any, Any]:
    """Return the type and the default of a section with the keys of all its components."""
    common = [Component.of(constructor) for constructor in section.constructors]
    if section.registry is None:
        # mypy cannot know types that are made here; pydantic reads them.
        kind: Any = _model("_".join(map(str, section.keys)), section.base, common)
    else:
        members = [
            _model(
                f"{'_'.join(map(str, section.keys))}_{name}",
                section.base,
                [*common, section.registry[name]],
                name,
                is_default=name == section.default_name,
            )
            for name in section.registry.names()
        ]
        # A union of types that are known only now, so that no annotation can spell it out.
        kind = members[0]
        for member in members[1:]:
            kind = kind | member
    optional = not owner.model_fields[str(section.keys[-1])].is_required()
    if optional:
        return kind | None, None
    # As for a run: a section may be left out if everything in it has a default.
    required = section.registry is not None and section.default_name is None
    return kind, ... if required else Field(default_factory=dict)


def _model(
    title: str,
    base: type[Section],
    components: list[Component],
    name: str | None = None,
    *,
    is_default: bool = False,
) -> type[Section]:
    """Return a section's type with descriptions; `name` is the one component it is for."""
    fields: dict[str, Any] = {}
    for component in components:
        for key, (annotation, default) in component.fields().items():
            text = component.description(key)  # else the type may have one
            described = Annotated[annotation, Field(description=text)] if text else annotation
            fields[key] = described, default
    if name is not None:
        fields["name"] = Literal[name], name if is_default else ...
    summary = components[-1].summary if name is not None else ""
    return create_model(title, __base__=base, __doc__=summary, **fields)


class _Described(GenerateJsonSchema):
    """Adds the texts that stand below the attributes of sections, which pydantic does not read."""

    def model_schema(self, schema: Any) -> Any:
        found = super().model_schema(schema)
        texts = dict(attribute_texts(schema["cls"]))
        for key, node in found.get("properties", {}).items():
            if not node.get("description") and key in texts:
                node["description"] = texts[key]
        return found


def attribute_texts(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield (attribute, text) of a class and its bases: the string below an attribute is its text.

    The bases come first, so that a dictionary of the pairs keeps the class's own text.
    """
    for cls in reversed(section.__mro__):
        if cls is not BaseModel and issubclass(cls, BaseModel):
            yield from _own_texts(cls)


@cache
def _own_texts(cls: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):  # made by `create_model`: its bases have the texts
        return ()
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    return tuple(
        (attribute.target.id, " ".join(text.value.value.split()))
        # Each statement with the one right below it, which is its text if it is a string.
        for attribute, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(attribute, ast.AnnAssign)
        and isinstance(attribute.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    )


def _for_editors(node: Any, definitions: Any) -> Any:
    """Rewrite what pydantic made into what editors complete and explain well.

    A choice among components becomes a `name` out of a list and, for each name, its own keys: then
    a mistake is told about that component, and not about all of them.
    """
    if isinstance(node, list):
        return [_for_editors(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _rewritten(key, value, definitions)
        for key, value in node.items()
        if key not in NOT_FOR_EDITORS
    }
    members = _members(node.get("anyOf") or node.get("oneOf") or [], definitions)
    rewritten = [_for_editors(member, definitions) for member in members]
    if len(rewritten) == 1:  # it stands for itself: its own mistakes are told, not the choice's
        return kept | rewritten[0]
    return kept | {"anyOf": rewritten} if rewritten else kept


NOT_FOR_EDITORS = ("overfit", "resume", "eval", "title", "discriminator", "anyOf", "oneOf")
"""What vtrain alone reads, titles, which repeat the key, and what is written anew."""


def _rewritten(keyword: str, value: Any, definitions: Any) -> Any:
    """Rewrite what stands under one keyword of a schema."""
    if keyword in ("default", "enum", "const"):
        return value
    if keyword in ("properties", "$defs"):  # their keys are a config's, and no keywords
        return {key: _for_editors(schema, definitions) for key, schema in value.items()}
    return _for_editors(value, definitions)


def _members(members: list[Any], definitions: Any) -> list[Any]:
    """Put the components of a union, where it has several, into one choice by name."""
    components = {
        name: member for member in members if (name := component_name(member, definitions))
    }
    if len(components) < 2:
        return members
    others = [member for member in members if member not in components.values()]
    return [_choice(components, definitions), *others]


def component_name(node: Any, definitions: Any) -> str:
    """Return the component that a section's schema is for; empty if it is for none."""
    target = definitions.get(str(node.get("$ref", "")).rpartition("/")[2], {})
    return str(target.get("properties", {}).get("name", {}).get("const", ""))


def _choice(components: dict[str, Any], definitions: Any) -> dict[str, Any]:
    """Return the schema of a section whose key `name` decides which other keys it has.

    Text alone is the name of a component that needs no other key.
    """

    def needed(member: Any) -> set[str]:
        return set(definitions[member["$ref"].rpartition("/")[2]].get("required", []))

    def needs_name(member: Any) -> bool:
        return "name" in needed(member)

    rules = [
        {"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": member}
        for name, member in components.items()
    ]
    # At most one component is meant where no name is given.
    rules += [
        {"if": {"not": {"required": ["name"]}}, "then": member}
        for member in components.values()
        if not needs_name(member)
    ]
    required = ["name"] if all(map(needs_name, components.values())) else []
    name = {"name": {"enum": list(components)}}
    section = {"type": "object", "properties": name, "required": required, "allOf": rules}
    alone = [name for name, member in components.items() if needed(member) <= {"name"}]
    return {"if": {"type": "string"}, "then": {"enum": alone}, "else": section}
