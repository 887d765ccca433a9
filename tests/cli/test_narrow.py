"""What a person sees on terminals of 40 and 60 columns: no line is cut inside a word."""

import re
from pathlib import Path

import pytest

from tests.cli.test_commands import NAMES
from tests.harness import Vtrain
from tests.terminals import on_terminal

COMMAND = re.compile(r"vtrain \w|tensorboard --")
"""A line to paste stays one line: the terminal breaks it."""


def too_wide(lines: list[str], columns: int) -> list[str]:
    """Return the lines that a terminal would break although a blank is where it need not."""
    return [
        line
        for line in lines
        if len(line) > columns and " " in line.strip() and not COMMAND.search(line)
        # A word that is wider than the line by itself can only be broken.
        if len(line.strip().split()[-1]) + 8 <= columns
    ]


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("name", ["", *NAMES])
def test_a_help_page_is_as_wide_as_the_terminal(
    vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    whole = vtrain(*filter(None, [name]), "--help").out
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = vtrain(*filter(None, [name]), "--help").out
    assert too_wide(narrow.splitlines(), columns) == []
    assert narrow.split() == whole.split()  # no word is lost or torn


@pytest.mark.parametrize("columns", [40, 60])
def test_a_run_and_its_tables_fit_the_terminal(small_run: Path, columns: int) -> None:
    folder = small_run.parent
    note = "schedule.warmup_epochs=1"
    code, lines = on_terminal(folder, columns, "fit", small_run, "--run-dir", "run", note)
    assert code == 0, lines
    assert too_wide(lines, columns) == []
    assert sum(line.startswith("epoch ") for line in lines) == 2  # each is one line
    assert any(line.startswith("data    fake") for line in lines)
    assert "  vtrain eval --ckpt run" in lines
    for arguments in (["check", small_run], ["models", "deit_ti"], ["verify", "run"], ["recipes"]):
        code, lines = on_terminal(folder, columns, *arguments)
        assert code == 0, lines
        assert too_wide(lines, columns) == []


def test_a_wide_terminal_has_a_line_for_each_row(small_run: Path) -> None:
    code, lines = on_terminal(small_run.parent, 200, "fit", small_run, "--run-dir", "run")
    assert code == 0
    assert any(line.startswith("data    fake, 4 classes, 70 training and") for line in lines)
