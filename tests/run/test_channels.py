"""Grey and many bands from the first check to the exported file, as a user goes through it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.files.image_table import npy
from tests.files.test_stacks import tiff
from tests.harness import Vtrain
from vtrain.inference.files import BATCH_SIZE
from vtrain.inference.loaded import load_model
from vtrain.models.base import ImageClassifier

CONFIG = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: image_folder, root: photos, image_size: 16, channels: CHANNELS}
augment: {crop: resized, policy: randaugment, erasing: 0.5}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 1, batch_size: 8, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""
BANDS = {1: 3, 4: 4, 5: 5}
"""`data.channels` -> the bands of the files."""


def planted(folder: Path, channels: int) -> list[Path]:
    """Write images of two classes: colours for grey, PNG with alpha, and arrays beside TIFFs."""
    draw, paths = np.random.default_rng(0), []
    for split, count in (("train", 6), ("val", 4)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (20, 24, BANDS[channels]), np.uint8)
                pixels[..., -1] //= 2 - (label == "dog")
                path = folder / split / label / f"{number}.png"
                if channels == 5:
                    path = path.with_suffix(".tif" if number % 2 else ".npy")
                    path.write_bytes(tiff(pixels, how=8) if number % 2 else npy(pixels))
                else:
                    Image.fromarray(pixels).save(path)
                paths.append(path)
    return sorted(path for path in paths if path.parts[-3] == "val")


@pytest.fixture(scope="module", params=[1, 4, 5])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, list[Path], Tensor]]:
    """A run in the working folder: its channels, its validation images, their logits in `fit`."""
    channels, logits = request.param, list[Tensor]()

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, ImageClassifier) and not module.training:
            logits.append(output.clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("channels"))
        paths = planted(Path("photos"), channels)
        Path("c.yaml").write_text(CONFIG.replace("CHANNELS", str(channels)))
        handle = nn.modules.module.register_module_forward_hook(note)
        try:
            patch.setattr(sys, "argv", [])
            yield channels, paths, _fitted(patch, logits)
        finally:
            handle.remove()


def _fitted(patch: pytest.MonkeyPatch, logits: list[Tensor]) -> Tensor:
    from vtrain import fit

    # After its evaluation a run looks at training images, too.
    patch.setattr("vtrain.run.judgement._known", lambda _: (0, 1))
    fit("c.yaml", run_dir="run", train={"eval_batch_size": BATCH_SIZE})
    return logits[-1]


def test_fit_eval_and_predict_agree_to_the_bit(
    trained: tuple[int, list[Path], Tensor], vtrain: Vtrain
) -> None:
    channels, paths, logits = trained
    collected: list[Tensor] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, ImageClassifier):
            collected.append(output.clone())

    handle = nn.modules.module.register_module_forward_hook(note)
    done = vtrain("eval", "--ckpt", "run/last.pt")
    assert done.code == 0, done.err
    done = vtrain("predict", *paths, "--ckpt", "run/last.pt")
    handle.remove()
    assert done.code == 0, done.err
    assert torch.equal(collected[0], logits)
    assert torch.equal(collected[-1], logits)
    assert load_model("run/last.pt").model.in_channels == channels


def test_an_image_of_other_channels_is_one_line(
    trained: tuple[int, list[Path], Tensor], vtrain: Vtrain
) -> None:
    channels, _, _ = trained
    Path("odd.npy").write_bytes(npy(np.zeros((8, 9, 7), np.uint8)))
    done = vtrain("predict", "odd.npy", "--ckpt", "run")
    assert done.code == 3
    assert f"an image of 7 channels, where {channels} are asked for" in done.err


def test_check_measures_what_to_normalise_by(
    trained: tuple[int, list[Path], Tensor], vtrain: Vtrain
) -> None:
    done = vtrain("check", "c.yaml", "--data")
    assert done.code == 0, done.err
    geometry = load_model("run").geometry
    files = sorted(Path("photos/train").rglob("*.*"))
    from vtrain.files.images import read_image

    pixels = torch.stack([geometry(read_image(path)) for path in files]).double() / 255
    for name, values in (
        ("mean", pixels.mean((0, 2, 3))),
        ("std", pixels.std((0, 2, 3), correction=0)),
    ):
        line = f"{name}: [{', '.join(f'{value:.4f}' for value in values.tolist())}]"
        assert line in done.out
    lines = "\n".join(
        f"  {x.strip()}" for x in done.out.splitlines() if x.strip()[:4] in {"mean", "std:"}
    )
    text = (
        Path("c.yaml")
        .read_text()
        .replace("data: {", "data: {" + lines.strip().replace("\n", ",") + ", ")
    )
    Path("pasted.yaml").write_text(text)
    done = vtrain("check", "pasted.yaml")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_the_exported_file_and_its_script_say_the_same(
    trained: tuple[int, list[Path], Tensor], vtrain: Vtrain
) -> None:
    _, paths, logits = trained
    done = vtrain("export", "run/last.pt", "--output", "model.onnx")
    assert done.code == 0, done.err
    command = [sys.executable, "predict.py", *paths, "--model", "model.onnx"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    for record, row in zip(said, logits.softmax(1), strict=True):
        first = record["predictions"][0]
        assert first["probability"] == pytest.approx(float(row.max()), abs=1e-5)
    done = vtrain("predict", *paths, "--ckpt", "model.onnx", "--format", "json")
    assert done.code == 0, done.err
    done = vtrain("eval", "--ckpt", "model.onnx", "data.root=photos")
    assert done.code == 0, done.err


def test_maps_and_reports_show_the_images(
    trained: tuple[int, list[Path], Tensor], vtrain: Vtrain
) -> None:
    _, paths, _ = trained
    done = vtrain("explain", paths[0], "--ckpt", "run", "--output", "maps")
    assert done.code == 0, done.err
    done = vtrain("report", "run", "--output", "page.html")
    assert done.code == 0, done.err
    assert "data:image" in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.mean=[0.5, 0.5, 0.5]", "must have a number for each channel, and channels is 5"),
        ("augment.hue=0.1", "saturation, hue and grey change colours"),
        ("augment.transforms=[{name: RandomGrayscale, p: 1.0}]", "transforms: RandomGrayscale"),
        ("model.in_channels=5", "did you mean 'data.channels'?"),
        ("data.channels=0", "data.channels"),
        (
            "train.distillation={teacher: 'torchvision:resnet18'}",
            "torchvision's models see 3 channels",
        ),
    ],
)
def test_a_contradiction_is_one_line_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain, change: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    planted(Path("photos"), 5)
    Path("c.yaml").write_text(CONFIG.replace("CHANNELS", "5"))
    done = vtrain("check", "c.yaml", change)
    assert done.code == 2
    assert len(done.errors) == 1
    assert said in done.errors[0]


def test_weights_of_colours_start_a_model_of_other_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain
) -> None:
    monkeypatch.chdir(tmp_path)
    planted(Path("photos"), 1)
    Path("c.yaml").write_text(CONFIG.replace("CHANNELS", "3"))
    assert vtrain("fit", "c.yaml", "--run-dir", "run").code == 0
    for channels, how in ((1, "added up for 1"), (5, "taken in turn, times 3/5 for 5")):
        done = vtrain("check", "c.yaml", f"data.channels={channels}", "model.pretrained=run")
        assert f"kernels of 3 channels {how}" in done.out, done.err
