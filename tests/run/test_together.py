"""Several models, and several views: the mean of probabilities, against sums by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.inference.loaded import load_model
from vtrain.report.predictions import Predictions
from vtrain.run.build.data import build_source
from vtrain.run.fit import fit
from vtrain.run.request import Request

VIT = """\
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 2}
data: {name: digits, image_size: 8, limit: 200}
optimizer: {name: adamw, lr: 3e-3}
train: {epochs: 2, batch_size: 50, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""
SWIN = "{name: swin_t, patch_size: 1, embed_dim: 8, depths: [1], num_heads: [2], window_size: 4}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT for 8 pixels and a Swin for 12, trained on the same images."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "vit.yaml").write_text(VIT)
    for name, changes in (("vit", ()), ("swin", (f"model={SWIN}", "data.image_size=12"))):
        fit(Request(load_config(folder / "vit.yaml", changes), name, folder / name))
    return folder


def probabilities(run: Path, view: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """Softmax of a view of each validation image, by nothing but the model."""
    loaded = load_model(run)
    samples = build_source(load_config(run / "config.yaml")).split("val")
    pixels = torch.stack([loaded.geometry(samples.image(i)) for i in range(len(samples))])
    with torch.no_grad():
        return loaded.model(view(loaded.geometry.normalise(pixels))).softmax(1).numpy()


def same(images: torch.Tensor) -> torch.Tensor:
    return images


def figures(mean: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    rows = np.arange(len(targets))
    return float((mean.argmax(1) == targets).mean()), float(-np.log(mean[rows, targets]).mean())


def test_an_ensemble_is_the_mean_of_its_members_probabilities(runs: Path, vtrain: Vtrain) -> None:
    vit, swin = runs / "vit", runs / "swin"
    done = vtrain("eval", "--ckpt", vit, "--ckpt", swin, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    each = [probabilities(run, same) for run in (vit, swin)]
    targets = Predictions.load(vit / "predictions.npz").targets
    top1, loss = figures(np.mean(each, 0), targets)
    assert found["val/top1"] == pytest.approx(top1, abs=1e-9)
    assert found["val/loss"] == pytest.approx(loss, abs=1e-5)
    alone = [figures(one, targets)[0] for one in each]
    assert [one["val/top1"] for one in found["members"]] == pytest.approx(alone, abs=1e-9)
    gain = found["gain"]
    assert gain["difference"] == pytest.approx(top1 - max(alone), abs=1e-9)
    low, high = gain["difference_interval"]
    assert low <= gain["difference"] <= high
    text = vtrain("eval", "--ckpt", swin, "--ckpt", vit).out  # the order changes nothing
    assert f"{found['val/top1']:.6f}" in text
    assert "over the best of them" in text


def test_a_flip_is_the_mean_of_an_image_and_its_mirror_image(runs: Path, vtrain: Vtrain) -> None:
    run = runs / "vit"
    done = vtrain("eval", "--ckpt", run, "--tta", "flip", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    plain = probabilities(run, same)
    mean = (plain + probabilities(run, lambda images: images.flip(-1))) / 2
    targets = Predictions.load(run / "predictions.npz").targets
    top1, loss = figures(mean, targets)
    assert found["val/top1"] == pytest.approx(top1, abs=1e-9)
    assert found["val/loss"] == pytest.approx(loss, abs=1e-5)
    gain = found["gain"]
    assert gain["over"] == "the plain figure"
    assert gain["accuracy_a"] == pytest.approx(figures(plain, targets)[0], abs=1e-9)
    ours, theirs = mean.argmax(1) == targets, plain.argmax(1) == targets
    assert (gain["only_a"], gain["only_b"]) == ((theirs & ~ours).sum(), (ours & ~theirs).sum())


def test_crops_and_an_ensemble_go_together(runs: Path, vtrain: Vtrain) -> None:
    both = ("--ckpt", runs / "vit", "--ckpt", runs / "swin")
    done = vtrain("eval", *both, "--tta", "five-crop", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    alone = json.loads(vtrain("eval", "--ckpt", runs / "vit", "--tta", "five-crop", "--json").out)
    assert found["members"][0]["val/top1"] == alone["val/top1"]


def test_prediction_asks_the_same_models_and_views(
    runs: Path, tmp_path: Path, vtrain: Vtrain
) -> None:
    image = tmp_path / "x.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    paths = [runs / "vit", runs / "swin"]
    mean = np.zeros(10)
    for path in paths:
        loaded = load_model(path)
        ready = loaded.preprocess(image)
        with torch.no_grad():
            for view in (ready, ready.flip(-1)):
                mean += loaded.model(view).softmax(1)[0].numpy() / 4
    order = [word for path in paths for word in ("--ckpt", path)]
    done = vtrain("predict", image, *order, "--tta", "flip", "--top-k", 10, "--format", "json")
    assert done.code == 0, done.err
    (answer,) = json.loads(done.out)
    found = {one["class"]: one["probability"] for one in answer["predictions"]}
    expected = dict(zip(load_model(paths[0]).classes, mean.tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("eval --ckpt vit --ckpt vit", 2, "this model is named twice (vit)"),
        ("eval --ckpt vit --ckpt vit/../vit", 2, "this model is named twice"),
        ("eval --ckpt vit --ckpt other.pt", 4, "its classes are not those of vit/best.pt"),
        ("eval --ckpt vit --ckpt nowhere", 4, "no such checkpoint"),
        ("eval --ckpt vit --ckpt swin --average 2", 2, "--average has no effect with"),
        ("eval --ckpt vit --tta flip --output x.pt", 2, "--output has no effect with --tta"),
        ("predict x.png --ckpt vit --ckpt other.pt", 4, "its classes are not those of"),
        ("predict x.png --ckpt vit --ckpt x.onnx", 2, "an ONNX file is asked alone"),
        ("predict x.png --ckpt x.onnx --tta flip", 2, "an ONNX file is asked alone"),
        ("predict x.png --ckpt vit --tta flip --conformal 0.1", 2, "--tta has no effect with"),
    ],
)
def test_what_cannot_be_asked_together_is_one_line(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    vtrain: Vtrain,
    arguments: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(runs)
    Image.new("RGB", (8, 8)).save("x.png")
    checkpoint = load_model("vit").checkpoint
    names = ("zero", *checkpoint.classes[1:])
    replace(checkpoint, classes=names).save(Path("other.pt"))
    done = vtrain(*arguments.split())
    assert done.code == code
    (line,) = done.errors
    assert message in line
