"""Tables for terminals of any width."""

import pytest

from vtrain.run.text.tables import columns

ROWS = [
    ["run", "seed", "best top-1", "seconds"],
    ["runs/a", "0", "50.0 %", "1.5"],
    ["runs/longer", "1", "7.0 %", "1234.5"],
]


def test_a_table_is_read_digit_by_digit() -> None:
    assert columns(ROWS).splitlines() == [
        "run          seed  best top-1  seconds",
        "runs/a          0      50.0 %      1.5",
        "runs/longer     1       7.0 %   1234.5",
    ]


@pytest.mark.parametrize("most", [1, 20, 30, 38, 39, 1000])
def test_columns_that_do_not_fit_follow_below_behind_the_names(most: int) -> None:
    parts = [part.splitlines() for part in columns(ROWS, most).split("\n\n")]
    for part in parts:
        assert [line.split("  ")[0].strip() for line in part] == ["run", "runs/a", "runs/longer"]
        one_column = len(part[0].split()) <= 3
        assert max(map(len, part)) <= most or one_column  # narrower it cannot be
    whole = [" ".join(" ".join(part[row].split()[1:]) for part in parts) for row in range(3)]
    assert whole == ["seed best top-1 seconds", "0 50.0 % 1.5", "1 7.0 % 1234.5"]
