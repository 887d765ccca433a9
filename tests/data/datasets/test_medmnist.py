"""Archives in the layout of MedMNIST, written by NumPy as its makers do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.harness import Vtrain
from vtrain.data.datasets.medmnist import MedMNIST
from vtrain.errors import DataError

DRAW = np.random.default_rng(0)
Arrays = dict[str, NDArray[Any]]


def arrays(shape: tuple[int, ...] = (9, 9, 3), classes: int = 3) -> Arrays:
    found: Arrays = {}
    for split, count in (("train", 12), ("val", 6), ("test", 9)):
        found[f"{split}_images"] = DRAW.integers(0, 256, (count, *shape), np.uint8)
        found[f"{split}_labels"] = (np.arange(count) % classes)[:, None].astype(np.uint8)
    return found


def written(path: Path, given: Arrays, packed: bool = True) -> Path:
    (np.savez_compressed if packed else np.savez)(path, **given)
    return path


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(9, 9, 3), (9, 9)])
def test_the_images_and_labels_of_each_split_are_the_arrays(
    tmp_path: Path, packed: bool, shape: tuple[int, ...]
) -> None:
    given = arrays(shape)
    source = MedMNIST(file=written(tmp_path / "a.npz", given, packed))
    assert (source.classes, source.splits) == (("0", "1", "2"), ("train", "val", "test"))
    for name in source.splits:
        samples, images = source.split(name), given[f"{name}_images"]
        assert samples.targets.tolist() == given[f"{name}_labels"][:, 0].tolist()
        for index in range(len(samples)):
            seen = np.asarray(samples.image(index))
            assert np.array_equal(
                seen, images[index] if len(shape) == 3 else images[index][..., None].repeat(3, 2)
            )
    assert any("grey" in note for note in source.notes) == (len(shape) == 2)


def test_classes_are_the_numbers_that_occur_or_have_names(tmp_path: Path) -> None:
    given = arrays()
    given["train_labels"] = given["train_labels"] * 5  # 0, 5, 10
    given["val_labels"] = given["val_labels"] * 5
    file = written(tmp_path / "a.npz", given)
    source = MedMNIST(file=file)
    assert source.classes == ("0", "5", "10")
    assert source.split("val").targets.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(DataError, match="class 1 of the test images is not one of 3"):
        source.split("test")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"tissue {k}" for k in range(11)))
    named = MedMNIST(file=file, classes=names)
    assert named.classes[5] == "tissue 5"
    assert named.split("val").targets.tolist() == [0, 5, 10, 0, 5, 10]
    names.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"class 5 .*give every number a line"):
        MedMNIST(file=file, classes=names).split("train")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"val_labels": np.zeros((6, 14), np.uint8), "train_labels": np.ones((12, 2), int) * 2},
            "train_labels has a 2 for one of 2 classes",
        ),
        ({"train_labels": np.zeros((11, 1), np.uint8)}, "train_labels has shape \\(11, 1\\)"),
        ({"train_labels": np.zeros((12, 1))}, "no whole numbers"),
        ({"train_images": np.zeros((12, 8, 8, 8), np.uint8)}, "volumes \\(12, 8, 8, 8\\)"),
        ({"train_images": np.zeros((12, 9, 9, 3), np.float32)}, "are float32, not uint8"),
        ({"train_images": np.zeros((12, 9), np.uint8)}, "shape \\(12, 9\\)"),
    ],
)
def test_arrays_of_another_layout_are_refused(tmp_path: Path, change: Arrays, said: str) -> None:
    source = MedMNIST(file=written(tmp_path / "a.npz", arrays() | change))
    with pytest.raises(DataError, match=said) as caught:
        source.split("train")
    assert len(caught.value.lines()) == 1


def test_a_row_of_zeros_and_ones_is_several_labels(tmp_path: Path) -> None:
    given = arrays()
    for split, count in (("train", 12), ("val", 6), ("test", 9)):
        given[f"{split}_labels"] = DRAW.integers(0, 2, (count, 14), np.uint8)
    given["train_labels"][0] = 0  # as most images of ChestMNIST
    given["val_labels"] = np.ones((6, 14), np.uint8)
    given["val_labels"][:, 3] = 0
    file = written(tmp_path / "chest.npz", given)
    source = MedMNIST(file=file)
    assert source.classes == tuple(map(str, range(14)))
    for name in source.splits:
        targets, rows = source.split(name).targets, given[f"{name}_labels"].tolist()
        assert (targets.dtype, targets.tolist()) == (torch.float32, rows)
    assert "val has no images of 1 class: 3" in source.notes
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"finding {k}" for k in range(14)))
    assert MedMNIST(file=file, classes=names).classes[13] == "finding 13"
    names.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"2 names for 14 columns of labels .*names\.txt"):
        MedMNIST(file=file, classes=names).split("train")


def test_splits_of_other_numbers_of_columns_are_refused(tmp_path: Path) -> None:
    given = arrays() | {"train_labels": np.zeros((12, 14), np.uint8)}
    source = MedMNIST(file=written(tmp_path / "a.npz", given))
    said = "val_labels has 1 numbers for each image, and train_labels has 14"
    with pytest.raises(DataError, match=said):
        source.split("val")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="no such file"):
        MedMNIST(file=path)
    path.write_text("no archive")
    with pytest.raises(DataError, match="not a readable archive"):
        MedMNIST(file=path)
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(DataError, match=r"no images of a split .* but x_train.*train_images"):
        MedMNIST(file=path)
    np.savez(path, train_images=np.array([[None]], object))
    with pytest.raises(DataError, match="Python objects"):
        MedMNIST(file=path)


def test_what_is_too_large_for_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MedMNIST(file=written(tmp_path / "a.npz", arrays()))
    monkeypatch.setattr("vtrain.data.datasets.medmnist.free_memory", lambda: 100)
    with pytest.raises(DataError, match="too large for the memory"):
        source.split("train")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_learns_and_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain, channels: int
) -> None:
    monkeypatch.chdir(tmp_path)
    given = arrays((8, 8))
    for split in ("train", "val", "test"):
        labels = given[f"{split}_labels"][:, 0]
        given[f"{split}_images"] = given[f"{split}_images"] // 8 + (labels * 90)[
            :, None, None
        ].astype(np.uint8)
    written(Path("a.npz"), given)
    Path("c.yaml").write_text(
        "model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 1}\n"
        f"data: {{name: medmnist, file: a.npz, image_size: 8, channels: {channels}}}\n"
        "optimizer: {name: adamw, lr: 1e-2}\n"
        "train: {epochs: 15, batch_size: 4, precision: fp32, device: cpu}\n"
        "logging: {tensorboard: false}\n"
    )
    done = vtrain("fit", "c.yaml", "--run-dir", "run")
    assert done.code == 0, done.err
    done = vtrain("eval", "--ckpt", "run", "--split", "test", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["val/top1"] > 0.6
    assert torch.load("run/last.pt", weights_only=True)["model"]["in_channels"] == channels
