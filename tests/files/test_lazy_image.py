import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.files.test_images import encoded, gradient, tiff
from vtrain.data.datasets.samples import ArraySamples, FileSamples, Paths
from vtrain.data.loading.cache import as_array
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.data.unused import Unused
from vtrain.files.images import decode_image, rgb
from vtrain.files.lazy_image import DeepGrey

VALUES = np.arange(-100, 4924, 157).reshape(4, 8)  # below, between and above the range
RANGE = (0.0, 4095.0)
LEVELS = np.rint(VALUES.astype(np.float64) * 255 / 4095).clip(0, 255)


def grey(values: np.ndarray, tags: dict[int, int] | None = None) -> bytes:
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    return tiff(values, 8 * values.itemsize, kind, tags)


def levels(pixels: torch.Tensor) -> np.ndarray:
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[0] == pixels[2]).all()
    return pixels[0].numpy()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_a_deep_image_is_seen_in_the_stated_range(dtype: type) -> None:
    square = np.resize(VALUES, (8, 8)).astype(dtype)  # of the model's size: nothing is scaled
    got = Preprocess(8, value_range=RANGE)(decode_image(grey(square)))
    assert (levels(got) == np.resize(LEVELS, (8, 8))).all()


def test_unsigned_samples_and_white_is_zero_are_seen_in_it_too() -> None:
    values = np.resize(VALUES, (8, 8)).clip(0).astype(np.uint16)
    want = np.rint(values * 255.0 / 4095).clip(0, 255)
    preprocess = Preprocess(8, value_range=RANGE)
    assert (levels(preprocess(decode_image(grey(values)))) == want).all()
    assert (levels(preprocess(decode_image(grey(values, {262: 0})))) == 255 - want).all()


def test_other_images_are_not_changed_by_a_range() -> None:
    image = gradient(40, 40)
    for data in (encoded(image), encoded(image.convert("L")), encoded(image, "JPEG")):
        ranged, auto = Preprocess(32, value_range=RANGE), Preprocess(32)
        assert torch.equal(ranged(decode_image(data)), auto(decode_image(data)))


def test_training_evaluation_and_the_cache_see_one_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (20, 20)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(grey(values))
    (tmp_path / "b.tif").write_bytes(grey(values[::-1]))
    preprocess = Preprocess(20, value_range=RANGE)
    whole = TrainGeometry(preprocess, 0, (1.0, 1.0), (1.0, 1.0))
    image = decode_image(grey(values))
    assert torch.equal(whole(image, 0, 0), preprocess(image))
    samples = FileSamples(tmp_path, Paths(["a.tif", "b.tif"]), torch.zeros(2).long())
    kept = as_array(samples, "ram", whole, Unused())
    assert isinstance(kept, ArraySamples)
    for index in range(2):
        assert torch.equal(preprocess(kept.image(index)), preprocess(samples.image(index)))


def test_its_own_pixels_are_those_of_the_declared_range() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = decode_image(grey(values))
    assert isinstance(image, DeepGrey)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert (np.asarray(image)[..., 0] == np.rint(values / 257)).all()
    assert rgb(image) is image


def test_a_range_is_kept_with_the_model_and_must_ascend() -> None:
    preprocess = Preprocess(8, value_range=(-1000.0, 3000.0))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
    for wrong in ((5.0, 5.0), (7.0, -7.0)):
        with pytest.raises(ValueError, match=r"value_range \(\[.*\]\) must ascend"):
            Preprocess(8, value_range=wrong)
