"""Files of features: written whole, read without trust, and of one model alone."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints import small_checkpoint
from tests.conftest import tiny
from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError
from vtrain.files.arrays import write_arrays
from vtrain.files.checkpoint import ModelDescription
from vtrain.inference.feature_file import FeatureFile, model_hash
from vtrain.inference.loaded import LoadedModel, model_of

SIZES = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


def loaded(seed: int = 0, **preprocess: object) -> LoadedModel:
    torch.manual_seed(seed)
    model = tiny("vit_ti", image_size=16, num_classes=2, **SIZES)
    if seed:
        torch.nn.init.normal_(model.patch_embed.proj.weight)
    checkpoint = small_checkpoint(
        model=ModelDescription("vit_ti", SIZES, 16, 3),
        preprocess={**Preprocess(16).to_dict(), **preprocess},
        state={"model": model.state_dict(), "ema": None},
    )
    return model_of(checkpoint, Path("x.pt"))


def some(**changes: object) -> FeatureFile:
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    file = FeatureFile(features, ("a/1.png", "b\udcff.png", "c"), "ab" * 32, ("x", "ü"))
    return replace(file, **changes)


@pytest.mark.parametrize("labels", [None, np.array([1, 0, 1])])
def test_what_was_written_is_read_again(tmp_path: Path, labels: np.ndarray | None) -> None:
    path, file = tmp_path / "x.npz", some(labels=labels)
    file.save(path, other=np.zeros(2))
    found = FeatureFile.load(path)
    np.testing.assert_array_equal(found.features, file.features)
    assert (found.ids, found.model, found.classes) == (file.ids, file.model, file.classes)
    assert found.label(0) == (None if labels is None else "ü")
    with np.load(path, allow_pickle=False) as arrays:  # as other programs read it
        assert arrays["features"].shape == (3, 2)
        assert arrays["model"].item() == file.model
        assert arrays["classes"].tolist() == ["x", "ü"]
        assert arrays["other"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "the file has no 'features'"),
        ({"model": None}, "the file has no 'model'"),
        ({"features": np.zeros((3, 2))}, "not a file of features: features of float64"),
        ({"features": np.zeros((2, 2), np.float32)}, "3 names of 2 images"),
        ({"features": np.full((3, 2), np.nan, np.float32)}, "features that are not finite"),
        ({"ids": np.array(["a", "b", "c"])}, "not a file of features"),
        ({"labels": np.array([0, 1, 2])}, "a label that is no class"),
        ({"labels": np.array([0.0, 1, 1])}, "labels of float64"),
        ({"labels": np.array([0])}, "labels of int64 (1,)"),
    ],
)
def test_what_is_no_file_of_features_is_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    path = tmp_path / "x.npz"
    some().save(path)
    with np.load(path) as arrays:
        content = {**arrays, **changes}
    write_arrays(path, {name: array for name, array in content.items() if array is not None})
    with pytest.raises(CheckpointError) as error:
        FeatureFile.load(path)
    assert message in str(error.value)
    assert "--features FILE.npz" in str(error.value)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="it holds Python objects"):
        FeatureFile.load(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("features.npy", b"no array")
    with pytest.raises(CheckpointError, match="not a readable archive of arrays"):
        FeatureFile.load(tmp_path / "x.npz")


def test_a_hash_is_of_what_decides_features_and_of_nothing_else() -> None:
    one = loaded()
    assert model_hash(one) == model_hash(loaded())
    weights = dict(one.checkpoint.weights)
    renamed = replace(one.checkpoint.with_weights(weights), classes=("c", "d"))
    assert model_hash(model_of(renamed, one.path)) == model_hash(one)
    weights["head.weight"] = weights["head.weight"] / 2  # as a calibration divides it
    divided = one.checkpoint.with_weights(weights)
    assert model_hash(model_of(divided, one.path)) == model_hash(one)
    assert model_hash(loaded(seed=1)) != model_hash(one)
    assert model_hash(loaded(crop_fraction=0.9)) != model_hash(one)
