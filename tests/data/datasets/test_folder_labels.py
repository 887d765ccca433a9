"""Files of the same name in several class folders as one image of several labels."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.data.pictures import plant
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.splits import Split
from vtrain.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant(tmp_path, "train/cat/1.png", "train/cat/in/2.png", "train/dog/3.png", "val/dog/4.png")
    (tmp_path / "train/dog/in").mkdir()
    shutil.copy(tmp_path / "train/cat/in/2.png", tmp_path / "train/dog/in/2.png")
    return tmp_path


def test_files_of_one_name_are_one_image_of_all_their_classes(root: Path) -> None:
    source = ImageFolder(root=root, several_labels=True)
    train, val = source.split("train"), source.split("val")
    assert [train.key(i) for i in range(3)] == ["cat/1.png", "cat/in/2.png", "dog/3.png"]
    assert train.targets.tolist() == [[1, 0], [1, 1], [0, 1]]
    assert (val.targets.tolist(), val.targets.dtype) == ([[0, 1]], torch.float32)


def test_without_the_key_they_are_two_images(root: Path) -> None:
    assert ImageFolder(root=root).split("train").targets.tolist() == [0, 0, 1, 1]
    assert Split(ImageFolder(root=root, several_labels=True)).split("train").targets.ndim == 2


def test_other_files_of_one_name_are_refused_in_one_line(root: Path) -> None:
    with (root / "train/dog/in/2.png").open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"cat/in/2\.png have one name, and are not the same") as no:
        ImageFolder(root=root, several_labels=True).split("train")
    assert len(no.value.lines()) == 1
