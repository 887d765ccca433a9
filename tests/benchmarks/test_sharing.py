"""A tree whose `vtrain bench` answers at once: its speed is the number of cores it may run on."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.sharing import SITUATIONS, main, table

PROGRAM = """\
import json, os, sys
assert sys.argv[1:3] == ["bench", "x.yaml"]
rate = SPEED * len(os.sched_getaffinity(0))
print(json.dumps({"layers": {"end to end": {"images_per_second": {"median": rate}}}}))
"""


def tree(folder: Path, speed: int) -> str:
    (folder / "vtrain").mkdir(parents=True)
    (folder / "vtrain" / "__init__.py").write_text("")
    (folder / "vtrain" / "__main__.py").write_text(PROGRAM.replace("SPEED", str(speed)))
    return str(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity and control groups are Linux's")
def test_each_tree_runs_in_each_situation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    trees = ["--old", tree(tmp_path / "old", 10), "--new", tree(tmp_path / "new", 20)]
    monkeypatch.setattr(sys, "argv", ["sharing", "x.yaml", *trees, "--turns", "1"])
    main()
    lines = capsys.readouterr().out.splitlines()
    rates = {line[:14].strip(): line.split()[-2] for line in lines if line.endswith("images/s")}
    assert rates["old one core"] == "10.0"
    assert rates["new one core"] == "20.0"
    assert {f"new {s}" for s in SITUATIONS} - set(rates) <= {"new quota"}


def test_a_ratio_is_of_turns_that_followed_each_other() -> None:
    numbers = {
        ("old", "quiet"): [100.0, 200.0],
        ("new", "quiet"): [100.0, 200.0],
        ("new", "beside"): [70.0, 140.0],
    }
    lines = table(numbers)
    assert [json.loads(line.split()[2]) for line in lines[:3]] == [150.0, 150.0, 105.0]
    ratios = {line[:24].strip(): line[24:28] for line in lines[3:]}
    assert ratios == {"quiet, new / old": "1.00", "new, beside / quiet": "0.70"}
