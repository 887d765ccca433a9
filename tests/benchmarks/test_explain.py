import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import explain
from tests.conftest import tiny
from vtrain.explain.methods import METHODS, Request, images_at_once


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        folder = tmp_path / "test" / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"{number}.png")
    return tmp_path


def test_a_row_for_each_model_has_all_methods(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain, "build_model", lambda *_: tiny("vit_ti"))
    monkeypatch.setattr(explain, "peak_in_process", lambda method: 10**9 + len(method))
    small = ["--root", str(root), "--images", "2", "--repeats", "1", "--recipe", "vit_ti_cifar"]
    monkeypatch.setattr(sys, "argv", ["explain", *small])
    explain.main()
    about, head, row, _, peaks, command = capsys.readouterr().out.splitlines()
    assert about.startswith("seconds for 2 images")
    assert head.split() == ["model", *METHODS, "pictures"]
    assert all(float(cell) >= 0 for cell in row.split()[1:])
    assert len(row.split()) == len(head.split())
    assert peaks.split() == ["vit_b"] + ["1000"] * len(METHODS)
    assert "torch" in command


def test_photographs_are_of_all_classes_in_turn(root: Path) -> None:
    reds = [one.getpixel((0, 0))[0] for one in explain.read(root, 3)]
    assert reds == [0, 60, 120]


def test_maps_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny("swin_t").eval(), torch.randn(5, 3, 32, 32)
    assert images_at_once(model, 32, 32) >= 5
    whole = (
        METHODS["rollout"]
        .function(model, images, Request(torch.zeros(5, 1, dtype=torch.int64)))[0]
        .values
    )
    monkeypatch.setattr(explain, "images_at_once", lambda *_: 2)
    torch.testing.assert_close(explain.maps(model, images, "rollout"), whole)


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no test/<class>/"):
        explain.read(tmp_path, 3)


@pytest.mark.study
@pytest.mark.parametrize("method", METHODS)
def test_a_vit_b_at_224_pixels_stays_below_2_gb(method: str) -> None:
    assert 3e8 < explain.peak_in_process(method) < explain.MOST_BYTES
