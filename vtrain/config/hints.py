"""Which key was meant: by its name in another section, by a peer's word, or by its spelling."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from vtrain.config.schema import REGISTRIES, build_schema
from vtrain.config.words import NO_KEYS, PEERS_WORDS
from vtrain.files.yaml import Document, Keys
from vtrain.registry import MODELS, Section

NEAR = 0.75
"""How alike words of different sections must be: of such many, a bad guess is likelier."""
MOST = 3
"""Keys that one hint offers."""
SHOWN = 160
"""Characters of a list of keys."""


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a field may hold: itself, or members of a union, tuple or list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for member in get_args(annotation):
        yield from sections_in(member)


def sections_at(schema: type[Section], keys: Keys, data: Any) -> list[type[Section]]:
    """Return the sections that may stand at `keys`; of a choice, the one that `data` names."""
    sections, is_mapping = [schema], False
    for key in keys:
        data = _item(data, key)
        if isinstance(key, int) or is_mapping:
            is_mapping = False
            continue  # the members of a list or a mapping are those of its field
        fields = [s.model_fields[key] for s in sections if key in s.model_fields]
        sections = [section for field in fields for section in sections_in(field.annotation)]
        is_mapping = any(get_origin(field.annotation) is dict for field in fields)
    name = _item(data, "name")
    named = [section for section in sections if name in _literals(section)]
    return named or sections


def _item(data: Any, key: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    is_there = isinstance(data, list) and isinstance(key, int) and key < len(data)
    return data[key] if is_there else None


def _literals(section: type[Section]) -> tuple[Any, ...]:
    field = section.model_fields.get("name")
    is_choice = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if is_choice and field is not None else ()


def wants_text(schema: type[Section], keys: Keys, *, or_null: bool = True) -> bool:
    """Return whether a key takes any text or path, and nothing else but null if `or_null`."""
    fields = [
        section.model_fields[str(keys[-1])]
        for section in sections_at(schema, keys[:-1], None)
        if keys[-1] in section.model_fields
    ]
    kinds = {kind for field in fields for kind in _kinds(field.annotation)}
    return bool(kinds) and kinds <= {str, Path, *[NoneType] * or_null}


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union; a `Literal`, a list and any other are one each."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _kinds(member)
    elif get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    else:
        yield annotation


def all_keys(schema: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield every key of a schema, dotted, sections included."""
    for key, field in schema.model_fields.items():
        yield prefix + key
        for section in sections_in(field.annotation):
            yield from all_keys(section, f"{prefix}{key}.")


def keys_called(word: str, schema: type[Section]) -> list[str]:
    """Return the keys of this very name, wherever they are, else what a peer's word stands for.

    A peer's word for a section comes first: `dataset` is `data`, and not a key of a policy.
    """
    if PEERS_WORDS.get(word) in schema.model_fields:
        return [PEERS_WORDS[word]]
    same = [key for key in dict.fromkeys(all_keys(schema)) if key.rpartition(".")[2] == word]
    return same[:MOST] or ([PEERS_WORDS[word]] if word in PEERS_WORDS else [])


def keys_spelt_like(word: str, schema: type[Section]) -> list[str]:
    """Return the key of any section whose name is nearest, if it is near."""
    known = PEERS_WORDS | {key.rpartition(".")[2]: key for key in all_keys(schema)}
    return [known[near] for near in difflib.get_close_matches(word, known, n=1, cutoff=NEAR)]


def meant(keys: Keys, schema: type[Section], data: Any) -> tuple[list[str], str]:
    """Return the dotted keys that an unknown one may stand for, and the hint that says so.

    The hint names a key of the same section by its name alone.
    """
    *path, word = map(str, keys)
    word = word.lower().replace("-", "_")
    # From the surest guess to the least sure: the very name, what other programs say, the spelling
    # within this section, the key of another component, the spelling anywhere.
    found = keys_called(word, schema)
    if not found and word in NO_KEYS:
        return [], NO_KEYS[word]
    allowed = sorted({k for s in sections_at(schema, keys[:-1], data) for k in s.model_fields})
    # difflib's own cutoff: among the few keys of one section a far guess is still a good one.
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    if not found and near:
        found = [".".join([*path, *near])]
    elif not found and (owners := _owners(keys)):
        return [], f"it is a key of {owners}, not of the one chosen by {'.'.join(path)}.name"
    found = found or keys_spelt_like(word, schema)
    if found:
        # A key of the same section is named as it stands there.
        shown = [k.rpartition(".")[2] if k.split(".")[:-1] == path else k for k in found]
        return found, f"did you mean {' or '.join(map(repr, shown))}?"
    return [], _listed(".".join(path), allowed)


def _owners(keys: Keys) -> str:
    """Return the components that have a key which the chosen one lacks, as text."""
    registry = REGISTRIES.get(keys[:-1])
    if registry in (None, MODELS):  # `vtrain models NAME` lists a model's
        return ""
    owners = [name for name in registry.names() if keys[-1] in registry[name].fields()]
    return " and ".join(owners[:MOST]) + " and others" * (len(owners) > MOST)


def _listed(section: str, allowed: list[str]) -> str:
    if not allowed:
        return "there are no keys here"
    if not section:
        return f"the sections are {names(allowed)}"
    text = f"the keys of '{section}' are {names(allowed)}"
    return f"{text} (see vtrain keys {section})" if text.endswith("...") else text


def names(words: list[str]) -> str:
    """List names, as many as are read in one glance."""
    text = ", ".join(words)
    # Cut behind a whole name.
    return text if len(text) <= SHOWN else text[:SHOWN].rpartition(",")[0] + ", ..."


def hint_on_option(option: str) -> str | None:
    """Say what to write instead of an option of other programs, such as `--batch-size`."""
    word = option.strip("-").replace("-", "_")
    named = {"model": "vit_s", "data": "image_folder", "optimizer": "adamw"}
    document = Document("command line", {key: {"name": name} for key, name in named.items()})
    schema = build_schema(document)
    # A key with its section, as `--train.epochs`; then a section that a peer's option has a folder
    # for; then a key of any section.
    found = [word] if "." in word and word in set(all_keys(schema)) else keys_called(word, schema)
    for key in found:
        return f"write {'data.root' if key == 'data' else key}=VALUE, without dashes"
    return NO_KEYS.get(word)
