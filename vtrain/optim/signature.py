"""Compose the signature of a decorated function, which the registry reads as a schema."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def compose_signature(
    wrapper: F, function: Callable[..., Any], *, first: Sequence[str] = (), last: Sequence[str] = ()
) -> F:
    """Replace the `**keywords` of `wrapper` by the keyword-only parameters of `function`.

    Args:
        wrapper: Takes what the program hands in, keywords of its own and `**keywords`.
        function: What the wrapper calls with `**keywords`; it gives name and docstring.
        first: Keywords that come before all others.
        last: Keywords that come after all others. Between them stand those of `function`, then
            those of `wrapper`.
    """
    handed, shared, added = [], [], []
    for parameter in inspect.signature(wrapper).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            shared.append(parameter)
        elif parameter.kind is not parameter.VAR_KEYWORD:
            handed.append(parameter)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            added.append(parameter)
    # A stable sort: the keywords that neither list names keep their order.
    keywords = sorted(added + shared, key=lambda p: (p.name in last) - (p.name in first))

    signature = inspect.signature(wrapper).replace(parameters=handed + keywords)
    # `get_type_hints` reads the annotations and not the signature, so both have to say the same.
    hints = {p.name: p.annotation for p in signature.parameters.values()}
    wrapper.__annotations__ = {**hints, "return": signature.return_annotation}
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__
    wrapper.__module__, wrapper.__doc__ = function.__module__, function.__doc__
    return wrapper
