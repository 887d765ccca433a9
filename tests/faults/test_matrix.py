"""No fault that blocks a release is without a test, and every test that is named exists."""

import ast
from functools import cache
from pathlib import Path

import pytest
from matrix import MATRIX, MISSING

TESTS = Path(__file__).parent.parent
SECTIONS = dict(zip("ABCDEFGHIJKL", (26, 20, 25, 19, 22, 16, 13, 9, 12, 15, 14, 8), strict=True))


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return the tests of a file, as pytest names them."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return frozenset(found)


def test_every_row_is_in_the_matrix_once() -> None:
    expected = [f"{letter}{n}" for letter, rows in SECTIONS.items() for n in range(1, rows + 1)]
    assert list(MATRIX) == expected


@pytest.mark.parametrize("name", MATRIX)
def test_the_tests_of_a_row_exist(name: str) -> None:
    for test in MATRIX[name].tests:
        file, _, function = test.partition("::")
        assert function in names_in(TESTS / file), test


def test_rows_that_block_a_release_have_a_test_or_stand_among_the_missing() -> None:
    untested = {name for name, row in MATRIX.items() if row.priority == 0 and not row.tests}
    assert untested == MISSING.keys()
