import sys
from pathlib import Path

import pytest

from benchmarks.compare import Row, in_turns, line, main


def test_trees_take_turns_after_a_warm_up(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(tree: Path) -> float:
        asked.append(tree.name)
        return float(len(asked))

    old, new = in_turns(Row("x", "s", measure), tmp_path / "old", tmp_path / "new", turns=2)
    assert asked == ["old", "new", "old", "new", "new", "old"]
    assert old == [3.0, 6.0]
    assert new == [4.0, 5.0]


@pytest.mark.parametrize(
    ("limits", "new", "end"),
    [
        ({"most": 0.5}, 4.0, "| at most 0.5 | reached |"),
        ({"most": 0.5}, 6.0, "| at most 0.5 | MISSED |"),
        ({"least": 0.98}, 9.9, "| at least 0.98 | reached |"),
        ({"least": 0.98}, 9.0, "| at least 0.98 | MISSED |"),
        ({}, 1.0, "| none |  |"),
    ],
)
def test_a_row_says_whether_its_ratio_is_what_is_asked(
    limits: dict[str, float], new: float, end: str
) -> None:
    row = Row("first step", "s", lambda _: 0.0, **limits)
    text = line(row, [10.0, 20.0, 30.0], [new, 2 * new, 3 * new])
    assert text.startswith(f"| first step | 20.00 | {2 * new:.2f} | s | {new / 10:.2f} [")
    assert text.endswith(end)


@pytest.mark.slow
def test_two_commits_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--rows", "listing", "first", "--turns", "1", "--files", "200"]
    monkeypatch.setattr(sys, "argv", ["compare", "HEAD", *small])
    main()
    rows = [text for text in capsys.readouterr().out.splitlines() if text.startswith("| ")]
    assert [text.split(" | ")[0] for text in rows[1:]] == [
        "| first step",
        "| listing, processor time",
        "| listing, memory",
    ]


def test_a_commit_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "no-such-commit"])
    with pytest.raises(SystemExit, match="no commit no-such-commit"):
        main()
