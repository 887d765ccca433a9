"""The gain of fine-tuning: its images, and the file of timm that it may start from."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import finetune_gain
from benchmarks.finetune_gain import halves
from benchmarks.timm_training import timm_file
from vtrain.models.pretrained import load_pretrained
from vtrain.models.weights.published import HALF
from vtrain.registry import MODELS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("bird", "cat", "dog", "frog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_the_second_half_of_the_classes_has_few_images_that_the_seed_draws(
    data: Path, tmp_path: Path
) -> None:
    old, new = halves(data, tmp_path / "a", 3, 0)
    assert {path.name for path in (old / "train").iterdir()} == {"bird", "cat"}
    assert len(list((old / "train").glob("*/*"))) == 12
    assert len(list((new / "train").glob("*/*"))) == 6
    assert len(list((new / "test").glob("*/*"))) == 4
    other = halves(data, tmp_path / "b", 3, 1)[1]
    drawn = [{p.relative_to(f) for p in (f / "train").glob("*/*")} for f in (new, other)]
    assert drawn[0] != drawn[1]


@pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning")  # timm's, in its dataset
def test_timm_leaves_a_file_that_the_recipe_starts_from(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    file = timm_file(data / "train", tmp_path / "timm", epochs=1)
    assert file.name == "model_best.pth.tar"
    written = file.stat().st_mtime_ns
    assert timm_file(data / "train", tmp_path / "timm", epochs=1) == file
    assert file.stat().st_mtime_ns == written
    shape = {"patch_size": 4, "embed_dim": 128, "depth": 6, "num_heads": 4, "mlp_ratio": 2}
    model = MODELS["vit_ti"](num_classes=4, image_size=32, pooling="mean", **shape)
    report = load_pretrained(model, str(file))
    assert (report.new, report.unused, report.resized) == ((), (), ())
    assert report.colours is not None
    assert (report.colours.mean, report.colours.std) == HALF
    state = torch.load(file, weights_only=False)["state_dict"]
    assert torch.equal(model.state_dict()["head.weight"], state["head.weight"])


def test_the_table_has_each_seed_and_the_gain(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[str, str]] = []

    def fit(config: str, run: Path, *overrides: str) -> None:
        run.mkdir(parents=True)
        started.append((run.name, " ".join(overrides)))
        top1 = {"finetuned": 0.6, "scratch": 0.5}[run.name] + 0.01 * int(run.parent.name[-1])
        (run / "summary.json").write_text(json.dumps({"final": {"val/top1": top1}}))

    monkeypatch.setattr(finetune_gain, "fit", fit)
    monkeypatch.setattr(finetune_gain, "timm_file", lambda *_: Path("best.pth.tar"))
    words = ["--data", str(data), "--output", str(tmp_path / "out"), "--by=timm", "--images=3"]
    monkeypatch.setattr(sys, "argv", ["scripts/bench finetune_gain", *words, "--seeds", "2"])
    finetune_gain.main()
    out = capsys.readouterr().out
    assert "60.50%      50.50%       10.00" in out
    assert [name for name, _ in started] == ["finetuned", "scratch"] * 2
    assert "model.pretrained=best.pth.tar" in started[0][1]
    assert "model.pretrained=null" in started[1][1]
