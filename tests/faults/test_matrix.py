"""No fault that blocks a release is without a test, and every test that is named exists."""

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
SECTIONS = dict(zip("ABCDEFGHIJKL", (26, 20, 25, 19, 22, 16, 13, 9, 12, 15, 14, 8), strict=True))


@dataclass
class Row:
    """A fault, its priority (0: blocks a release), and the tests that provoke it."""

    name: str
    priority: int
    tests: list[str] = field(default_factory=list)
    reason: str = ""
    """Why there is no test."""


def parsed(text: str) -> list[Row]:
    """Read the matrix: a row is one line, its tests are the indented lines below it."""
    rows: list[Row] = []
    for line in text.splitlines():
        if match := re.fullmatch(r"([A-Z]\d+) ([0-2]) \S.*", line):
            rows.append(Row(match[1], int(match[2])))
        elif line.startswith("    no test: "):
            rows[-1].reason = line.removeprefix("    no test: ")
        elif line.startswith("    "):
            rows[-1].tests.append(line.strip())
        else:
            assert not line or line.startswith("# "), line
    return rows


MATRIX = parsed((TESTS / "faults/matrix.txt").read_text())


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return the tests of a file, as pytest names them."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return frozenset(names)


def test_every_row_is_in_the_matrix_once() -> None:
    expected = [f"{letter}{n}" for letter, rows in SECTIONS.items() for n in range(1, rows + 1)]
    assert [row.name for row in MATRIX] == expected


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.name)
def test_the_tests_of_a_row_exist(row: Row) -> None:
    for test in row.tests:
        file, _, function = test.partition("::")
        assert function in names_in(TESTS.parent / file), test


def test_rows_that_block_a_release_have_a_test_or_a_reason() -> None:
    blocking = [row for row in MATRIX if row.priority == 0]
    assert [row.name for row in blocking if bool(row.tests) == bool(row.reason)] == []
