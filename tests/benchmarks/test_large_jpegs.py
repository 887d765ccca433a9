import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.large_jpegs import main, photograph

SMALL = ["--images", "1", "--rounds", "1"]


def test_the_table_has_speeds_and_differences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--size", "1300", "900", "--image-size", "32"]
    monkeypatch.setattr(sys, "argv", ["large_jpegs", *SMALL, *size])
    assert main() == 0
    machine, head, evaluation, crop = capsys.readouterr().out.splitlines()
    assert machine.startswith("machine")
    assert head.split()[-3:] == ["worst", "image", "most"]
    for name, row in (("evaluation", evaluation), ("random resized crop", crop)):
        assert row.startswith(name)
        *_, mean, worst, most = row.split()
        assert 0 < float(mean) <= float(worst) < 2
        assert int(most) >= 1


def test_photographs_of_ones_own_may_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph(tmp_path / "deep.jpg", 60, 40, seed=0)
    with Image.open(tmp_path / "deep.jpg") as image:
        assert image.size == (60, 40)
    monkeypatch.setattr(sys, "argv", ["large_jpegs", *SMALL, "--data", str(tmp_path)])
    assert main() == 0
    assert "1 images" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["large_jpegs", "--data", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match=r"has no \.jpg files"):
        main()
