"""What to say of a command line that typer refuses, or that a shell or an editor has changed."""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import typer

from vtrain.cli.commands import COMMANDS, app
from vtrain.errors import ConfigError, printable, shortened
from vtrain.files.paths import at_home

VALIDATOR_S_WORDS = (
    ("Value error, ", ""),
    ("Input should be a valid ", "it must be a "),
    ("Input should be ", "it must be "),
    ("a integer", "an integer"),
    (", unable to parse string as an integer", ""),
    (", unable to parse string as a number", ""),
)
"""What typer's validator says, and plain words."""
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb"
"""What word processors and web pages make of a dash or a quote."""
LONGEST = 8
"""Words that one name is looked for in."""


def usage_error(error: Any) -> ConfigError:
    """Say what typer refuses, and what to type instead."""
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    function = {name: f for members in COMMANDS.values() for name, f in members.items()}.get(named)
    command = "vtrain" if function is None else f"vtrain {named}"
    option = _unknown_option(error)
    single = next((word for word in sys.argv if f"-{word}" in ("--help", "--version")), None)
    if option and single:  # which typer reads as `-h -e -l -p`
        return ConfigError(f"No such option: {single}", "command line", f"did you mean -{single}?")
    if function is not None and option:
        takes_keys = "overrides" in inspect.signature(function).parameters
        hint = next(_for_option(option, named, takes_keys=takes_keys), None)
        if hint:
            hint = f"{hint}; see {command} --help"
            return ConfigError(f"No such option: {option}", "command line", hint)
    what = error.format_message().rstrip(".")
    for old, new in VALIDATOR_S_WORDS:
        what = what.replace(old, new)
    return ConfigError(what, "command line", f"see {command} --help")


def _unknown_option(error: Any) -> str:
    """Return the option that there is not, as it was typed; nothing of another mistake."""
    if not hasattr(error, "possibilities"):
        return ""
    option = str(error.option_name)
    if len(option) != 2:
        return option
    return next((word for word in sys.argv if word.startswith(option) and word != option), option)


def _for_option(option: str, command: str, *, takes_keys: bool) -> Iterator[str]:
    """Yield what to write instead of an option that a command does not have, the surest first."""
    from vtrain.config.words import PEERS_WORDS, REPORTED

    word, options = option.strip("-").replace("-", "_"), _options()
    own = options[command]
    yield from _of_another_form(word, own)
    if takes_keys and word == "ckpt":
        yield "to start from its weights write model.pretrained=CKPT, without dashes"
    owners = [name for name, of in options.items() if f"--{word}".replace("_", "-") in of]
    hint = _key_for(option) if takes_keys else None
    # The option that a hint names must be one of this command.
    if hint and (not owners or own.issuperset(re.findall(r"--[a-z-]+", hint))):
        yield hint
    if word in REPORTED:
        yield "the page of `vtrain report RUN` shows that"
    if owners:
        *others, last = owners[:3]
        yield f"it is an option of vtrain {' and '.join(filter(None, [', '.join(others), last]))}"
    if PEERS_WORDS.get(word) == "train.device" or word == "device":
        yield "a GPU is taken where there is one; CUDA_VISIBLE_DEVICES= in front hides it"


def _of_another_form(word: str, own: frozenset[str]) -> Iterator[str]:
    """Yield how a command with these options is asked for what programs read."""
    if word in ("json", "csv") and "--format" in own:
        yield f"write --format {word}"
    if word == "format" and "--json" in own:
        yield "write --json for a program"


@cache
def _options() -> dict[str, frozenset[str]]:
    """Return the options of every command."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined] # it is a group
    return {
        name: frozenset(option for parameter in command.params for option in parameter.opts)
        for name, command in commands.items()
    }


def _key_for(option: str) -> str | None:
    """Say which key is meant by another program's option, in a command with the config typed."""
    from vtrain.config.hints import hint_on_option
    from vtrain.run.advice import with_config

    hint, typed = hint_on_option(option), _typed_config()
    return hint if hint is None or typed is None else with_config(hint, typed)


def _typed_config() -> Path | None:
    """Return the config on the command line: the first word that is one."""
    from vtrain.config.recipes import recipe_names

    words = [word for word in sys.argv[2:] if not word.startswith("-") and "=" not in word]
    return next((Path(w) for w in words if w in recipe_names() or _is_there(w)), None)


def torn_or_typeset(words: Sequence[str]) -> ConfigError | None:
    """Return what explains that a command was refused, if a shell or an editor has changed it.

    A shell cuts a name at its blanks, and an editor or a web page writes dashes and quotes for a
    page. Whoever sees the mistakes that come of it looks in vain for one of his own.
    """
    for first, word in enumerate(words):
        if _is_there(word) or _is_there(word.rpartition("=")[2]):  # so it was meant
            continue
        if word[:1] in DASHES:
            meant = f"--{word.lstrip(DASHES + '-')}"
            what = f"'{shortened(word)}' begins with a dash of a text, not of a keyboard"
            return ConfigError(what, "command line", f"did you mean {meant}?")
        if any(quote in word for quote in QUOTES):
            what = f"{shortened(word)} holds quotes of a text, not of a keyboard"
            return ConfigError(what, "command line", "write ' or \" around a name")
        key, equals, _ = word.rpartition("=")
        for name in _joined(words[first : first + LONGEST]):
            what = f"a shell cuts '{shortened(name)}' at its blanks"
            return ConfigError(what, "command line", f"write it in quotes: {key}{equals}'{name}'")
    return None


def _joined(words: Sequence[str]) -> Iterator[str]:
    """Yield what the first of these words names with the next ones, if that is there."""
    start = words[0].rpartition("=")[2]
    if not start:
        return
    for count in range(len(words), 1, -1):
        name = " ".join([start, *words[1:count]])
        if "'" not in name and _is_there(name):
            yield printable(name)


def _is_there(name: str) -> bool:
    with suppress(OSError, ValueError):  # of a name that no file can have
        return os.path.lexists(at_home(name))
    return False
