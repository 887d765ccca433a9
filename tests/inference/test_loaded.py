"""A checkpoint becomes the model that was saved, or an error that says why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import vtrain
from tests.harness import Vtrain
from vtrain.errors import CheckpointError
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference.loaded import LoadedModel, load_model, model_of


@pytest.fixture
def run(small_run: Path, vtrain: Vtrain) -> Path:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=4").code == 0
    return Path("run")


def test_the_model_is_the_saved_one_with_its_averaged_weights(run: Path) -> None:
    loaded = vtrain.load_model(run)
    assert isinstance(loaded, LoadedModel)
    content = torch.load(run / "best.pt", weights_only=True)
    assert loaded.path == run / "best.pt"
    assert loaded.classes == tuple(content["classes"])
    average = content["state"]["ema"]["weights"]
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, average[name])
    assert not loaded.model.training
    assert loaded.device == torch.device("cpu")


def test_an_image_is_prepared_as_in_evaluation(run: Path, tmp_path: Path) -> None:
    loaded = load_model(run)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for image in (tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(pixels)):
        found = loaded.preprocess(image)
        assert found.shape == (1, 3, 16, 16)
        mean, std = np.array(loaded.geometry.mean), np.array(loaded.geometry.std)
        expected = (pixels / 255 - mean) / std
        np.testing.assert_allclose(found[0].permute(1, 2, 0), expected, rtol=1e-5, atol=1e-6)


def test_an_image_in_memory_is_prepared_as_its_file(run: Path, tmp_path: Path) -> None:
    loaded = load_model(run)
    draw = np.random.default_rng(0)
    colours = draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(colours).save(pictures / "turned.jpg", exif=exif)
    shown = np.where(np.arange(30) < 15, 0, 255)[None].repeat(20, 0).astype(np.uint8)
    Image.fromarray(np.dstack([colours, shown])).save(pictures / "alpha.png")
    Image.fromarray(draw.integers(0, 65536, (20, 30), dtype=np.uint16)).save(pictures / "deep.png")
    for path in pictures.iterdir():
        assert torch.equal(loaded.preprocess(path), loaded.preprocess(Image.open(path))), path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "vit_x"}, "vit_x"),
        ({"arguments": {"depth": -1}}, "model.depth is -1"),
        ({"arguments": {"patch_size": 5}}, "must be a multiple of patch_size"),
        ({"image_size": 32}, "reshaped; first: pos_embed"),
        ({"in_channels": 1}, "1 reshaped; first: patch_embed.proj.weight"),
    ],
)
def test_what_does_not_describe_the_saved_model_is_refused_in_a_line(
    run: Path, change: dict[str, object], message: str
) -> None:
    saved = Checkpoint.load(run / "last.pt")
    arguments = {**saved.model.arguments, **change.get("arguments", {})}  # type: ignore[dict-item]
    other = replace(saved, model=replace(saved.model, **{**change, "arguments": arguments}))
    with pytest.raises(CheckpointError, match=message) as caught:
        model_of(other, run / "last.pt")
    assert len(caught.value.lines()) == 1


def test_other_classes_do_not_fit_the_head(run: Path) -> None:
    saved = replace(Checkpoint.load(run / "last.pt"), classes=("a", "b"))
    with pytest.raises(CheckpointError, match="0 missing, 0 unexpected, 2 reshaped; first: head"):
        model_of(saved, run / "last.pt")
