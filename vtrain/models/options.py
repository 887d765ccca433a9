"""Hand the keys of a model to its constructor in groups."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import get_type_hints

Init = Callable[..., None]


def grouped_keywords(init: Init) -> Init:
    """Let a constructor take the fields of its dataclass parameters as keywords of its own.

    Who calls it, and the registry that reads its signature, see one flat list of keywords, each
    group's in the place of the parameter; the body gets the dataclasses, and can pass them on.
    Their fields must be keyword-only and have defaults.
    """
    hints = get_type_hints(init, include_extras=True)
    groups = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(init).parameters.values():
        if parameter.name in groups:
            parameters += inspect.signature(groups[parameter.name]).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(init)
    def flat(*args: object, **keywords: object) -> None:
        # What no group has stays in `keywords`, where `init` refuses what it does not know.
        for name, group in groups.items():
            names = [field.name for field in fields(group) if field.name in keywords]
            keywords[name] = group(**{name: keywords.pop(name) for name in names})
        init(*args, **keywords)

    # `get_type_hints` reads the annotations and not the signature, so both have to say the same.
    flat.__annotations__ = {p.name: p.annotation for p in parameters[1:]} | {"return": None}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat
