"""The counts of a package small enough to count by hand."""

import sys
from pathlib import Path

import pytest

from benchmarks.measures import main, measure

FILES = {
    "__init__.py": '"""A package."""\n',
    "shapes.py": '''\
"""Two shapes."""

from dataclasses import dataclass

# A square is a rectangle, too.


@dataclass(frozen=True)
class Rectangle:
    """Has two sides."""

    width: float
    """In metres."""
    height: float  # in metres

    def scaled(self, factor: float, *rest: float, **named: float) -> float:
        def inner(a: int) -> int:
            return a if a else 1

        return factor
''',
    "plain.py": """\
from small.shapes import Rectangle


def many(a, b, c, d):
    if a and b or c:
        return [x for x in d if x if x > 1]
    try:
        for _ in d:
            pass
    except ValueError:
        return a if b else c
""",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "small" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def values(root: Path) -> dict[str, float]:
    return {name: figure.value for name, figure in measure(root, "small").items()}


def test_every_measure_is_what_one_counts_by_hand(small: Path) -> None:
    assert values(small) == {
        "modules": 3,
        "lines": 1 + 20 + 11,
        "files over 300 lines": 0,
        "lines of a file: median": 11,
        "lines of a file: 9 of 10 have at most": pytest.approx(11 + 0.8 * 9),
        "lines of a file: longest": 20,
        "functions over 50 lines": 0,
        "lines of a function: median": 5,  # of 2, 5 and 8
        "lines of a function: 9 of 10 have at most": pytest.approx(5 + 0.8 * 3),
        "lines of a function: longest": 8,
        "most parameters of a function": 4,
        "most fields of a dataclass": 2,
        # One, `if`, `and`, `or`, the loop and two conditions of the list, `for`, `except`, `if`.
        "worst complexity": 10,
        "comments per 100 lines of code": pytest.approx(100 * 2 / (9 + 9)),
        "import cycles": 0,
    }


def test_a_place_is_named_where_a_number_has_one(small: Path) -> None:
    found = measure(small, "small")
    assert found["worst complexity"].where == "plain.py:4 many"
    assert found["most fields of a dataclass"].where == "shapes.py:9 Rectangle"


def test_long_files_and_functions_are_counted(small: Path) -> None:
    body = "    pass\n" * 49
    (small / "small" / "long.py").write_text(
        f"def just():\n{body}\n\ndef over():\n    pass\n{body}" + "x = 1\n" * 198
    )
    assert values(small)["files over 300 lines"] == 1
    assert values(small)["functions over 50 lines"] == 1


@pytest.mark.parametrize(
    ("line", "cycles"),
    [
        ("from small.plain import many", 1),
        ("from small import plain", 1),
        ("import small.plain", 1),
        ("def late():\n    from small import plain", 0),  # by then both are there
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from small import plain", 0),
        ("import os", 0),
    ],
)
def test_an_import_cycle_is_found_however_it_is_written(
    small: Path, line: str, cycles: int
) -> None:
    path = small / "small" / "shapes.py"
    path.write_text(path.read_text() + f"\n\n{line}\n")
    found = measure(small, "small")["import cycles"]
    assert found.value == cycles
    assert ("small.plain" in found.where) == bool(cycles)


def test_two_trees_stand_side_by_side(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    (old / "small").mkdir(parents=True)
    (old / "small" / "one.py").write_text("def f(a):\n    return a\n")
    arguments = ["--package", "small", "--root", str(small), "--against", str(old)]
    monkeypatch.setattr(sys, "argv", ["measures", *arguments])
    main()
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["modules"].split() == ["1", "3"]
    assert rows["most parameters of a function"].split() == [
        "1", "one.py:1", "f", "4", "plain.py:4", "many",
    ]  # fmt: skip


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no package 'small'"):
        measure(tmp_path, "small")
