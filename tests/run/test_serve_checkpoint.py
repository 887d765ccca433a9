"""A checkpoint as what is served: its maps, where there are several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import stated, tiny
from tests.harness import Vtrain
from tests.run.test_serve import client
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
