"""Two trees whose commands answer at once, with speeds that are known."""

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.trees import Tree, main, table

PROGRAM = """\
import json, pathlib, sys, time
command = sys.argv[1]
if command == "bench":
    layers = {{"bare step": {step}, "end to end": {step} / 2}}
    speeds = {{name: {{"images_per_second": {{"median": rate}}}} for name, rate in layers.items()}}
    print(json.dumps({{"layers": speeds}}))
elif "no_such_key=1" in sys.argv:
    sys.exit({mistake})
elif command == "fit":
    assert sys.argv[2:4] == ["x.yaml", "seed=1"] and "train.max_steps=1" in sys.argv
    run = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
    run.mkdir()
    (run / "metrics.jsonl").write_text("{{}}")
    time.sleep(600)  # what a run does after its first step: nobody waits for it
"""


def tree(folder: Path, step: float = 100.0, mistake: int = 2) -> Path:
    (folder / "vtrain").mkdir(parents=True)
    (folder / "vtrain" / "__init__.py").write_text("")
    (folder / "vtrain" / "__main__.py").write_text(PROGRAM.format(step=step, mistake=mistake))
    return folder


def test_trees_take_turns_and_their_speeds_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tree(tmp_path / "old"), tree(tmp_path / "new", step=150.0)
    numbers = tmp_path / "numbers.json"
    arguments = ["x.yaml", "seed=1", "--old", str(old), "--new", str(new), "--minutes", "0"]
    monkeypatch.setattr(sys, "argv", ["trees", *arguments, "--json", str(numbers)])
    main()
    text = capsys.readouterr().out
    assert re.search(
        r"^step +100.00 +150.00  images/s  1.50 \[1.50, 1.50\], n = 4: diff", text, re.M
    )
    assert re.search(r"^run +50.00 +75.00 ", text, re.M)
    found = json.loads(numbers.read_text())
    assert len(found["old"]) == len(found["new"]) == 4
    assert all(0 < turn["first step"] < 60 for turn in found["old"])


def test_two_trees_that_are_equally_fast_are_said_to_be_the_same() -> None:
    names = ("step", "run", "help", "mistake", "first step")
    slow, fast = (dict.fromkeys(names, speed) for speed in (1.0, 1.1))
    lines = table([slow, fast, slow, fast], [fast, slow, fast, slow])
    assert all(line.endswith("n = 4: the same within noise") for line in lines[1:])


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="vtrain"):
        Tree(tmp_path, [])


def test_a_command_that_ends_otherwise_than_it_should_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no_such_key=1 failed: no message"):
        Tree(tree(tmp_path, mistake=1), ["x.yaml"]).turn(1.0)
