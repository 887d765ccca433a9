"""Every row of `image_table`: near its reference, or refused by name."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.files.image_table import HEIGHT, READ, REFUSED, WIDTH
from vtrain.data.preprocess import Preprocess
from vtrain.errors import DataError
from vtrain.export.script import predict_script
from vtrain.files.images import decode_image, read_image

MOST = 2.0
"""Grey levels, in the mean over an image."""


@pytest.mark.parametrize("name", READ)
def test_a_file_is_near_what_it_was_made_from(name: str) -> None:
    data, reference = READ[name]
    image = decode_image(data)
    assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
    apart = np.asarray(image).astype(float) - reference
    assert abs(apart).mean() <= MOST


@pytest.fixture(scope="module")
def script() -> ModuleType:
    module = ModuleType("predict")
    exec(compile(predict_script("model.onnx", "0"), "predict.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", READ)
def test_the_script_beside_an_exported_file_has_the_same_bits(
    script: ModuleType, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(READ[name][0])
    geometry = Preprocess(16)
    options = {k: v for k, v in json.loads(json.dumps(geometry.to_dict())).items() if k != "std"}
    theirs = script.fit_image(script.read_image(path), **options)
    ours = geometry(read_image(path)).permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(theirs), ours)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_named_with_the_way_out(name: str) -> None:
    data, what, way_out = REFUSED[name]
    with pytest.raises(DataError) as caught:
        decode_image(data, "a.img")
    (line,) = caught.value.lines()
    assert what in line
    assert way_out in line
    assert "(a.img)" in line
