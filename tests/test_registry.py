import pytest
from pydantic import PositiveInt, ValidationError

from vtrain.errors import ConfigError
from vtrain.registry import Component, Registry, suggest


class Block:
    """A block.

    More words.
    """

    def __init__(self, size: int = 8, *, depth: PositiveInt = 2, rate: float = 0.5) -> None:
        self.size, self.depth, self.rate = size, depth, rate


def registry() -> Registry:
    blocks = Registry("block", "vtrain.callbacks")
    blocks.register("small")(blocks.register("large", depth=24, size=16)(Block))
    return blocks


def test_a_preset_changes_defaults_and_an_argument_beats_both() -> None:
    blocks = registry()
    assert blocks["small"]().depth == 2
    assert blocks["large"]().depth == 24
    assert blocks["large"](depth=3).depth == 3
    assert blocks["large"].default("size") == 16
    assert blocks["small"].summary == "A block."


def test_the_schema_is_the_keyword_only_part_of_the_signature() -> None:
    section = registry()["large"].section()
    assert set(section.model_fields) == {"name", "depth", "rate"}
    assert section(name="large").model_dump() == {"name": "large", "depth": 24, "rate": 0.5}
    for wrong in ({"depth": 0}, {"depth": 1.5}, {"depth": True}, {"size": 3}):
        with pytest.raises(ValidationError):
            section(name="large", **wrong)


def test_a_parameter_is_described_by_the_docstring() -> None:
    def made(*, size: int = 1, size_range: int = 2, other: int = 3) -> None:
        """Make something.

        Args:
            size: How large,
                in pixels: of each side.
            size_range: How
                varied.

        Returns:
            Nothing.
        """

    component = Component.of(made)
    assert component.description("size") == "How large, in pixels: of each side."
    assert component.description("size_range") == "How varied."
    assert component.description("other") == ""


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown block 'larg': did you mean 'large'"):
        registry()["larg"]
    with pytest.raises(ConfigError, match="choose one of large, small"):
        registry()["os.system"]


def test_two_components_of_one_name_are_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="two blocks are called 'small'"):
        registry().register("small")(Block)


def test_of_many_names_none_is_guessed_where_none_is_near() -> None:
    names = [f"model_{i}" for i in range(30)]
    assert suggest("zzz", names).startswith("choose one of model_0, ")
    assert suggest("zzz", names).endswith(", model_19, ... (30 in all)")
