"""What configs of older versions hold and this version no longer has, and what they do not hold."""

import logging
from typing import Any, NamedTuple

from vtrain.data.preprocess import BEFORE
from vtrain.errors import ConfigError
from vtrain.files.yaml import Document, Keys

log = logging.getLogger(__name__)

COMMAND_LINE = "command line"
"""Where an override stands."""


class Retired(NamedTuple):
    """A value that a key once could have."""

    keys: Keys
    value: str
    instead: str | None
    """The value that takes its place; None removes the key."""
    note: str
    """What a user is told about it; empty if nothing changes."""


RETIRED = (
    Retired(("train", "window_attention"), "torch", None, ""),  # was the default
    *(
        Retired(("train", "window_attention"), kernel, None, "windows use torch's attention")
        for kernel in ("triton", "fastest")
    ),
    Retired(("train", "precision"), "bf16_full", "bf16", "bf16 takes its place"),
)

ADDED = {"data": BEFORE}
"""Section -> keys that stored configs of older versions do not have, and what was done then."""


def complete_stored(document: Document) -> None:
    """Give a stored config the keys that were added since, with what its run did."""
    for name, keys in ADDED.items():
        section = document.data.get(name)
        if isinstance(section, dict):
            document.data[name] = {**keys, **section}


def replace_retired(document: Document, *, stored: bool) -> None:
    """Replace what is retired in a document, before it meets the schema.

    A removed key is dropped from any file: every run folder of an older version has it in
    its `config.yaml`. A value with a successor is replaced in a stored config alone; whoever types
    it is told what to write, in one of the document's mistakes.
    """
    for keys, value, instead, note in RETIRED:
        *path, last = keys
        section: Any = document.data
        for key in path:
            section = section.get(key) if isinstance(section, dict) else {}
        if not isinstance(section, dict) or section.get(last) != value:
            continue
        what, where = f"{'.'.join(map(str, keys))} is no longer {value}", document.where(keys)
        if instead is None and where.startswith(COMMAND_LINE):
            continue  # nobody types what a file of an older version has: an unknown key
        if instead is None:
            del section[last]
        else:
            section[last] = instead  # also where it is refused: one mistake for one value
            if not stored:
                document.mistakes.append(ConfigError(what, where, f"write {instead}"))
                continue
        if note:
            log.warning("%s (%s): %s", what, where, note)
