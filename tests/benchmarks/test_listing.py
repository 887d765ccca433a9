import sys
from pathlib import Path

import pytest

from benchmarks.listing import main


def test_two_trees_list_the_same_folder_in_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--images", "20", "--classes", "2", "--turns", "1"]
    monkeypatch.setattr(sys, "argv", ["listing", "--old", str(Path()), *small])
    main()
    seconds, memory = capsys.readouterr().out.splitlines()
    assert seconds.startswith("seconds")
    assert "n = 1" in seconds or "[" in seconds
    assert memory.startswith("MiB")


def test_a_folder_without_the_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vtrain").mkdir()
    small = ["--images", "2", "--classes", "2", "--turns", "1"]
    monkeypatch.setattr(sys, "argv", ["listing", "--old", str(tmp_path), *small])
    with pytest.raises(SystemExit, match=f"{tmp_path} holds no vtrain"):
        main()
