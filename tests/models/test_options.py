"""Keywords in groups: callers see one flat list, the constructor gets dataclasses."""

import inspect
from dataclasses import dataclass
from typing import get_type_hints

import pytest

from vtrain.models.options import grouped_keywords


@dataclass(frozen=True, kw_only=True)
class Size:
    width: int = 3
    height: int = 4


class Box:
    @grouped_keywords
    def __init__(self, name: str, *, first: bool = True, size: Size, last: float = 0.5) -> None:
        self.given = (name, first, size, last)


def test_the_fields_stand_where_the_group_does() -> None:
    parameters = inspect.signature(Box).parameters
    assert list(parameters) == ["name", "first", "width", "height", "last"]
    assert [p.default for p in parameters.values()][1:] == [True, 3, 4, 0.5]
    assert all(
        p.kind is inspect.Parameter.KEYWORD_ONLY for name, p in parameters.items() if name != "name"
    )


def test_the_types_are_those_of_the_fields() -> None:
    assert get_type_hints(Box.__init__) == {
        "name": str,
        "first": bool,
        "width": int,
        "height": int,
        "last": float,
        "return": type(None),
    }


def test_the_constructor_gets_the_group() -> None:
    assert Box("a", height=7, last=1.0).given == ("a", True, Size(width=3, height=7), 1.0)


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="heigt"):
        Box("a", heigt=7)
