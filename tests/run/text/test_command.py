"""Commands that are shown can be pasted as they are."""

import shlex
from pathlib import Path

import pytest

from vtrain.run.text.command import argument, resume_command


@pytest.mark.parametrize("name", ["run", "a b", "it's", "$(rm)", "lr=0.1", "ü/漢", "*", "~"])
def test_a_shell_gives_the_command_the_path_again(name: str) -> None:
    assert shlex.split(argument(Path(name))) == [name]


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    assert argument(Path("-x")) == "./-x"


def test_no_name_steers_the_terminal() -> None:
    assert "\x1b" not in argument(Path("\x1b[2J"))


def test_the_command_that_goes_on() -> None:
    assert resume_command(Path("a b"), ["x.y=[1, 2]"]) == "vtrain fit 'a b' --resume 'x.y=[1, 2]'"
