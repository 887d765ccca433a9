"""Commands that are shown can be pasted as they are."""

import ast
import shlex
from pathlib import Path

import pytest

from vtrain.run.text.command import argument, literal, resume_command


@pytest.mark.parametrize("name", ["run", "a b", "it's", "$(rm)", "lr=0.1", "ü/漢", "*", "~"])
def test_a_shell_gives_the_command_the_path_again(name: str) -> None:
    assert shlex.split(argument(Path(name))) == [name]


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    assert argument(Path("-x")) == "./-x"


def test_no_name_steers_the_terminal() -> None:
    assert "\x1b" not in argument(Path("\x1b[2J"))


@pytest.mark.parametrize(
    "name", ["a b", 'a"b', "a'b", "a\\b", "ü/漢", "\x1b[2J", "new\nline", "\u202egpj", "\udcff"]
)
def test_python_reads_a_literal_as_the_text_and_no_terminal_is_steered(name: str) -> None:
    assert ast.literal_eval(literal(name)) == name
    assert literal(name).isprintable()


def test_the_command_that_goes_on() -> None:
    assert resume_command(Path("a b"), ["x.y=[1, 2]"]) == "vtrain fit 'a b' --resume 'x.y=[1, 2]'"
