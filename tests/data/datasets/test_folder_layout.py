from pathlib import Path

import pytest

from tests.data.pictures import plant
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.folder_layout import read_layout, splits_above
from vtrain.errors import DataError


def splits(root: Path) -> dict[str, str]:
    return {split: path.name for split, path in read_layout(root).splits.items()}


def test_names_alone_decide_where_all_are_of_one_kind(tmp_path: Path) -> None:
    plant(tmp_path / "a", "Training/cat/1.png", "DEV/cat/1.png", "Testing/cat/1.png")
    assert splits(tmp_path / "a") == {"train": "Training", "val": "DEV", "test": "Testing"}
    plant(tmp_path / "b", "cat/1.png", "dog/1.png")
    assert splits(tmp_path / "b") == {"train": "b"}


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    plant(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    layout = read_layout(tmp_path)
    assert layout.splits == {"train": tmp_path}
    assert layout.notes == ("'train' is a class: it is no split, as it holds images itself",)


@pytest.mark.parametrize(
    "names",
    [
        ("bus/1.png", "train/steam/1.png"),
        ("invalid/may/1.png", "valid/may/1.png"),
        ("bus/1.png", "train/1.png", "test/1.png"),
        ("bus/1.png", "train/1.png", "train/steam/1.png"),
        ("bus/1.png", "train/1.png", "val/a/1.png", "test/a/1.png"),
        ("bus/1.png", "train/notes.txt"),
    ],
)
def test_what_may_be_a_split_or_a_class_is_refused_with_the_rule(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    plant(tmp_path, *names)
    with pytest.raises(DataError, match=r"is unclear whether .* is a split or a class") as caught:
        read_layout(tmp_path)
    assert names[0].split("/")[0] in caught.value.what
    assert "one named like a split is a class if it is the only one" in str(caught.value)


def test_two_folders_of_one_split_are_refused_but_not_a_link_to_it(tmp_path: Path) -> None:
    plant(tmp_path, "Train/a/1.png", "valid/a/1.png")
    (tmp_path / "val").symlink_to("valid")
    assert splits(tmp_path) == {"train": "Train", "val": "val"}
    plant(tmp_path, "dev/a/1.png")
    with pytest.raises(DataError, match="'dev' and 'val' both name the val split"):
        read_layout(tmp_path)


def test_a_folder_that_a_split_is_a_link_to_is_nothing_beside_it(tmp_path: Path) -> None:
    plant(tmp_path, "version_2/a/1.png")
    (tmp_path / "train").symlink_to("version_2")
    assert splits(tmp_path) == {"train": "train"}


def test_what_lies_beside_two_splits_is_said(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.png", "test/a/1.png", "more/1.png", "notes/a.txt", "docs/b.txt")
    plant(tmp_path, "stray.png", "labels.csv", "@eaDir/1.png", ".DS_Store")
    (tmp_path / "newest").symlink_to("train")
    layout = read_layout(tmp_path)
    assert set(layout.splits) == {"train", "test"}
    assert set(layout.notes) == {
        "warning: ignored 1 folder of images beside the splits (more)",
        "ignored 2 folders without images beside the splits (docs, notes)",
        "ignored 1 file that is no image (.csv 1) in the folder",
        "warning: ignored 1 image beside the class folders in the folder",
        "ignored 2 hidden or leftover files and folders (@eaDir 1, .DS_Store 1) in the folder",
        "ignored 1 link to a folder that is listed anyway in the folder",
    }


@pytest.mark.parametrize("name", ["C:\\Users\\me\\photos", "C:Usersmephotos", "d:/x"])
def test_a_path_of_windows_is_answered_with_its_name_in_wsl(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"/mnt/{name[0].lower()}"):
        read_layout(tmp_path / name)


def test_a_split_in_the_place_of_all_is_answered_with_the_folder_above(tmp_path: Path) -> None:
    root = plant(tmp_path / "d", "Train/cat/1.png", "Train/dog/1.png", "valid/cat/2.png")
    assert splits_above(root / "Train") == root
    assert splits_above(root / "Train" / "cat") is None
    assert splits_above(root) is None
    with pytest.raises(DataError, match=f"did you mean the folder above, {root}"):
        ImageFolder(root=root / "Train").split("val")
