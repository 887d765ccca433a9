"""A checkpoint as what is served: of several maps, and of images of many bands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import stated, tiny
from tests.files.image_table import npy, tiff
from tests.harness import Vtrain
from tests.run.test_serve import client, said
from vtrain.files.checkpoint import ModelDescription
from vtrain.inference.loaded import load_model


def distilled(trained: Path, file: Path) -> Path:
    """Write a checkpoint of a model with two prefix tokens, with the rest of another one."""
    model = tiny("deit_ti_distilled", num_classes=4, image_size=16, patch_size=4)
    arguments = {**stated("deit_ti_distilled", "TINY"), "patch_size": 4}
    replace(
        load_model(trained).checkpoint,
        model=ModelDescription("deit_ti_distilled", arguments, 16, 3),
        state={"model": model.state_dict(), "ema": None, "step": 1},
    ).save(file)
    return file


def test_each_of_several_maps_can_be_asked_for(
    trained: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    path, image = distilled(trained, tmp_path / "distilled.pt"), tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    done = vtrain("explain", image, "--ckpt", path, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    content = image.read_bytes()
    names = ["both tokens", "class", "distillation"]
    saved = np.load(next((tmp_path / "out").glob("*.npz")))
    with client(path) as http:
        assert http.post("/explain?values", content=content).json()["maps"] == names
        for number, name in enumerate(names):
            found = http.post(f"/explain?values&map={name}", content=content).json()
            assert found["map"] == name
            np.testing.assert_allclose(found["values"], saved[f"map_{number}"], rtol=1e-4)
        answer = http.post("/explain?map=distilation", content=content)
        assert answer.status_code == 400
        assert "did you mean 'distillation'?" in answer.json()["error"]


BANDS = np.random.default_rng(0).integers(0, 256, (20, 30, 5), np.uint8)
STACKS = {
    "stack.npy": npy(BANDS),
    "bands_first.npy": npy(np.ascontiguousarray(BANDS.transpose(2, 0, 1))),
    "bands.tif": tiff(BANDS),
    "deep.tif": tiff(BANDS.astype(np.uint16) * 257),
}


@pytest.fixture
def of_bands(trained: Path, tmp_path: Path) -> Path:
    """A checkpoint of a model that sees five bands, with the rest of another one."""
    model = tiny("vit_ti", num_classes=4, image_size=16, patch_size=4, in_channels=5)
    checkpoint = load_model(trained).checkpoint
    half = (0.5,) * 5
    path = tmp_path / "bands.pt"
    replace(
        checkpoint,
        model=ModelDescription("vit_ti", {**stated("vit_ti", "TINY"), "patch_size": 4}, 16, 5),
        preprocess={**checkpoint.preprocess, "channels": 5, "mean": half, "std": half},
        state={"model": model.state_dict(), "ema": None, "step": 1},
    ).save(path)
    return path


def test_images_of_many_bands_are_answered_as_by_predict(
    of_bands: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    for name, content in STACKS.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in STACKS]
    done = vtrain("predict", *files, "--ckpt", of_bands, "--format", "json")
    assert done.code == 0, done.err
    expected = json.loads(done.out)
    with client(of_bands) as http:
        for one in expected:
            answer = http.post("/predict", content=Path(one["image"]).read_bytes())
            assert answer.status_code == 200
            found = said(answer.json()["predictions"])
            assert found == pytest.approx(said(one["predictions"]), abs=1e-5)
        answer = http.post("/explain?values", content=STACKS["stack.npy"])
        assert answer.status_code == 200
        assert answer.json()["size"] == [30, 20]


PICKLED = npy(BANDS).replace(b"'|u1'", b"'|O' ")
WRONG = {
    "an image of 4 channels, where 5 are asked for": npy(BANDS[..., :4].copy()),
    "an image of 6 channels, where 5 are asked for": tiff(np.zeros((4, 4, 6), np.uint8)),
    "an image of 3 channels, where 5 are asked for": tiff(BANDS[..., :3].copy()),
    "a damaged NumPy array": npy(BANDS)[:-9],
    "an array of object": PICKLED,
    "an array of shape (2, 3, 4, 5)": npy(np.zeros((2, 3, 4, 5), np.uint8)),
    "a damaged TIFF": tiff(BANDS)[:8] + bytes(8),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_a_model_of_many_bands_cannot_use_is_one_line(of_bands: Path, why: str) -> None:
    with client(of_bands) as http:
        for path in ("/predict", "/explain"):
            answer = http.post(path, content=WRONG[why])
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert why in error
            assert error.isprintable()
            assert len(error) < 300
