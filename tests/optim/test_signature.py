"""Composed signatures: what the registry reads is what the functions take."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from vtrain.optim.signature import compose_signature


def own(length: int, *, power: float, floor: float = 0.5) -> str:
    """Describe itself."""
    return f"{length} {power} {floor}"


def composed(**lists: list[str]) -> Callable[..., Any]:
    def wrapper(total: int, *, warmup: int = 3, start: float = 0.1, **keywords: Any) -> str:
        return f"{warmup} {start} {own(total, **keywords)}"

    return compose_signature(wrapper, own, **lists)


@pytest.mark.parametrize(
    ("lists", "order"),
    [
        ({}, ["power", "floor", "warmup", "start"]),
        ({"last": ["floor"]}, ["power", "warmup", "start", "floor"]),
        ({"first": ["start", "warmup"]}, ["warmup", "start", "power", "floor"]),
    ],
)
def test_both_have_their_keywords_in_the_stated_order(
    lists: dict[str, list[str]], order: list[str]
) -> None:
    function = composed(**lists)
    parameters = inspect.signature(function).parameters
    assert list(parameters) == ["total", *order]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in order)
    assert {
        name: p.default for name, p in parameters.items() if name not in ("total", "power")
    } == {
        "floor": 0.5,
        "warmup": 3,
        "start": 0.1,
    }
    assert get_type_hints(function) == {
        "total": int,
        "power": float,
        "floor": float,
        "warmup": int,
        "start": float,
        "return": str,
    }


def test_the_call_reaches_the_decorated_function_and_its_text_is_kept() -> None:
    function = composed()
    assert function(7, power=2.0, start=0.2) == "3 0.2 7 2.0 0.5"
    assert function.__doc__ == own.__doc__
    assert function.__name__ == "own"


def test_a_keyword_of_neither_is_refused() -> None:
    with pytest.raises(TypeError, match="powr"):
        composed()(7, powr=2.0)
