"""The reference pages say what the code says now."""

import re
from pathlib import Path

import pytest

from tests.docs.reference import docstring, pages
from tests.docs.test_pages import blocks
from vtrain import api, errors
from vtrain.config.keys import all_keys
from vtrain.files.checkpoint import Checkpoint


@pytest.mark.parametrize("path", pages(), ids=str)
def test_a_page_is_what_the_code_says(path: Path) -> None:
    written = path.read_text(encoding="utf-8").split()
    assert written == pages()[path].split(), "write it again: scripts/reference"


def test_nothing_is_left_out() -> None:
    text = Path("docs/en/keys.md").read_text()
    assert not [name for name in all_keys() if f"| `{name}` |" not in text]
    text = Path("docs/en/files.md").read_text()
    assert not [name for name in Checkpoint.__annotations__ if f"`{name}" not in text]
    codes = [kind.exit_code for kind in errors.VtrainError.__subclasses__()]
    assert not [code for code in codes[:-1] if f"| {code} |" not in text]
    text = Path("docs/en/api.md").read_text()
    assert not [name for name in api.__all__ if f"## vtrain.{name}" not in text]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_map_is_that_of_contributing(language: str) -> None:
    page = Path(f"docs/{language}/architecture.md").read_text(encoding="utf-8")
    (drawing,) = blocks(Path(f"docs/{language}/architecture.md"), "text")
    assert f"```\n{drawing}```" in Path("CONTRIBUTING.md").read_text()
    rooms = re.findall(r"`(vtrain/[^`]+)`", page)
    assert rooms
    assert not [room for room in rooms if not Path(room).exists()]


def test_every_row_says_something() -> None:
    for path, text in pages().items():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert not [row for row in rows if row.endswith("|  |")], path


def test_a_docstring_becomes_a_list_and_a_block() -> None:
    text = "Do it.\n\nArgs:\n    x: One\n        thing.\n    y: Other.\n"
    text += "\nExamples:\n    >>> 1\n    1\n"
    assert list(docstring(text)) == [
        *("Do it.", "", "**Args**", "", "- `x`: One thing.", "- `y`: Other.", ""),
        *("```pycon", ">>> 1\n1", "```", ""),
    ]
