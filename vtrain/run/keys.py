"""`vtrain keys`: what a config may say, looked up by key, by section or by words."""

import json
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import log
from typing import Any

from vtrain.config.json_schema import json_schema
from vtrain.config.keys import Key, all_keys
from vtrain.config.schema import REGISTRIES
from vtrain.config.words import NO_KEYS, PEERS_WORDS
from vtrain.errors import ConfigError
from vtrain.registry import MODELS

MOST_FOUND = 5
"""Keys that a search shows: who does not find it among so many asks in other words."""
COMPONENTS = {".".join((*map(str, keys), "name")): one for keys, one in REGISTRIES.items()}
"""Keys whose choices are components, with a first line each."""


def schema_text() -> str:
    """Return the JSON Schema of a config file."""
    return json.dumps(json_schema(), indent=1)


def keys_json(words: Sequence[str]) -> str:
    """Return the keys that the words ask for as JSON: a list of objects."""
    return json.dumps([_plain(key) for key in chosen_keys(words)], indent=1)


def _plain(key: Key) -> dict[str, Any]:
    return {
        "key": key.name,
        **asdict(key.main),
        "default": key.default,
        "variants": [
            {"of": [name for name in names if name], **asdict(variant)}
            for variant, names in key.variants.items()
        ],
    }


def keys_text(words: Sequence[str]) -> str:
    """Return the keys that the words ask for: a line each, or in full where they are few."""
    chosen = chosen_keys(words)
    if len(chosen) > MOST_FOUND:
        return _listed(chosen)
    return "\n\n".join(map(in_full, chosen))


def chosen_keys(words: Sequence[str]) -> list[Key]:
    """Return the keys that the words ask for: all, one, those of a section, or those found.

    Raises:
        ConfigError: No key matches.
    """
    keys = all_keys()
    asked = " ".join(words).strip().strip(".")
    # All words together, or each by itself: `data augment` are two sections.
    for choice in ([asked], [word.strip(".") for word in asked.split()]):
        inside = [_inside(one, keys) for one in choice]
        if inside and all(inside):
            return list({key.name: key for found in inside for key in found}.values())
    elsewhere = NO_KEYS.get(_normalised(asked))
    found = [] if elsewhere else search(asked, keys)[:MOST_FOUND]
    if not found:
        hint = elsewhere or "`vtrain keys` lists all of them"
        raise ConfigError(f"no key matches '{asked}'", "command line", hint)
    return found


def _inside(asked: str, keys: Mapping[str, Key]) -> list[Key]:
    """Return the key of a name, or those of the section; of no name all."""
    return [key for name, key in keys.items() if not asked or f"{name}.".startswith(f"{asked}.")]


def search(asked: str, keys: Mapping[str, Key]) -> list[Key]:
    """Return the keys that match a key's name, another program's word, or plain words; best first.

    A word counts by where it is found: in the key's own name most, in its text least.
    """
    wanted = _stems(asked)
    texts = {name: _places(key, wanted) for name, key in keys.items()}
    # A word that stands in every other key tells them apart no better than none (IDF).
    everywhere = Counter(word for found in texts.values() for word in found)
    meant = PEERS_WORDS.get(_normalised(asked))
    hinted = Counter(PEERS_WORDS.get(piece) for piece in _pieces(asked))
    scores: dict[str, float] = {}
    for name, found in texts.items():
        matches = [
            found[word] * log(len(keys) / everywhere[word]) for word in wanted if word in found
        ]
        # A question of which only a part is answered counts less; a peer's word in it counts more.
        scores[name] = sum(matches) * len(matches) / max(1, len(wanted)) + 20 * hinted[name]
        # Another program's word for the whole question settles it.
        if meant is not None and f"{name}.".startswith(f"{meant}."):
            scores[name] += 1000
    order = sorted(keys, key=lambda name: -scores[name])  # stable: else in the config's order
    return [keys[name] for name in order if scores[name] > 0]


def _places(key: Key, wanted: Sequence[str]) -> dict[str, float]:
    """Return each word of a key with the weight of the best place where it stands."""
    section, _, last = key.name.rpartition(".")
    name = _stems(last)
    # A name all of whose words are asked for is meant more than one that has others besides.
    asked = 3 + 7 * sum(word in wanted for word in name) / max(1, len(name))
    texts = ((key.main.meaning, 2.0), (section, 3.0), (key.main.type, 6.0), (last, asked))
    return {word: weight for text, weight in texts for word in _stems(text)}  # the last one counts


def _normalised(text: str) -> str:
    """Write a question as other programs write a key: `--img-size` and `img size` as `img_size`."""
    return re.sub(r"[\s-]+", "_", text.strip().lstrip("-").lower())


def _pieces(asked: str) -> Iterable[str]:
    """Yield the runs of one to three words of a question, as keys are written."""
    words = _normalised(asked).split("_")
    for length in (1, 2, 3):
        for start in range(len(words) - length + 1):
            yield "_".join(words[start : start + length])


NO_MEANING = {"a", "an", "the", "of", "to", "and", "or", "for", "in", "is", "how", "it", "i", "do"}


def _stems(text: str) -> list[str]:
    """Cut a text into words, without case, small words and the plainest endings."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [
        re.sub(r"(?<=\w{3})(ing|ed|es|s|e|y)$", "", word)
        for word in words
        if word not in NO_MEANING
    ]


def _listed(keys: Sequence[Key]) -> str:
    """Return a line for each key, as wide as the terminal: its name, default and meaning."""
    columns = shutil.get_terminal_size((100, 24)).columns
    name_width = max(len(key.name) for key in keys)
    lines: list[str] = []
    section = None
    for key in keys:
        if section is not None and key.name.partition(".")[0] != section:
            lines.append("")
        section = key.name.partition(".")[0]
        start = f"{key.name:{name_width}}  {textwrap.shorten(key.default, 12):12}  "
        room = max(20, columns - len(start))
        lines.append(start + textwrap.shorten(key.main.meaning, room, placeholder=" ..."))
    return "\n".join([*lines, "", "`vtrain keys KEY` tells all of one key; so do other words."])


def in_full(key: Key) -> str:
    """Return all that is known of a key: meaning, type, range, default, and whose it is."""
    lines = [key.name, *_wrapped(key.main.meaning)]
    values: dict[tuple[str, str], list[str]] = {}  # what is the same but for its text, once
    for variant, names in key.variants.items():
        values.setdefault((variant.type, variant.default), []).extend(filter(None, names))
    is_of_all = _is_of_all(key) and len(values) == 1
    shown = None
    for (kind, default), names in values.items():
        if kind != shown:
            lines += _wrapped(kind, "  type     ", " " * 11)
        shown = kind
        where = key.optional_section if default == "required" else ""
        text = f"{default} where {where} is given" if where else default
        whose = "" if is_of_all or not names else f" ({', '.join(names)})"
        lines += _wrapped(text + whose, "  default  ", " " * 11)
    registry = COMPONENTS.get(key.name)
    if registry is not None and registry is not MODELS:
        lines += [f"  {name:16} {registry[name].summary}" for name in registry.names()]
    return "\n".join(lines)


def _is_of_all(key: Key) -> bool:
    """Return whether every component that the key's section may name has the key."""
    registry = COMPONENTS.get(f"{key.name.rpartition('.')[0]}.name")
    owners = {name for names in key.variants.values() for name in names}
    return registry is not None and owners >= set(registry.names())


def _wrapped(text: str, first: str = "  ", other: str = "  ") -> list[str]:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=other)
