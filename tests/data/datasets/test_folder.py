import inspect
import os
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tests.data.pictures import as_nobody, plant
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.samples import Paths
from vtrain.data.datasets.splits import TEST_CHOOSES, Split
from vtrain.data.datasets.torchvision_table import TABLE
from vtrain.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(
        tmp_path / "set", "train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "val/dog/9.png"
    )


def names(source: ImageFolder, split: str = "train") -> list[str]:
    samples = source.split(split)
    return [str(Path(samples.name(i)).relative_to(source.root)) for i in range(len(samples))]


# Layouts


def test_classes_are_the_sorted_folders_and_targets_follow_them(root: Path) -> None:
    source = ImageFolder(root=root)
    assert source.classes == ("cat", "dog")
    assert names(source) == ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png"]
    assert source.split("train").targets.tolist() == [0, 0, 1]
    assert source.split("val").targets.tolist() == [1]
    assert source.split("train").image(0).size == (4, 4)


@pytest.mark.parametrize("choice", [{}, {"val_fraction": 0.4}, {"limit": 3}])
def test_no_folder_of_images_is_listed_twice(
    root: Path, choice: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold a million files."""
    listings: Counter[str] = Counter()
    real = os.scandir

    def counting(folder: Path) -> object:
        listings[str(Path(folder).relative_to(root))] += 1
        return real(folder)

    monkeypatch.setattr(os, "scandir", counting)
    bare = ImageFolder(root=root)
    for source in (bare, Split(bare, **choice), Split(bare, **choice)):
        for split in ("train", "val", "train", "val"):
            assert len(source.split(split))
        assert set(source.notes) >= set(bare.notes)
    assert {listings[folder] for folder in ("train/cat", "train/dog", "val/dog")} == {1}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_validation_folder_may_have_any_usual_name(tmp_path: Path, name: str) -> None:
    source = ImageFolder(root=plant(tmp_path, "train/a/1.png", "train/b/1.png", f"{name}/b/2.png"))
    assert names(source, "val") == [f"{name}/b/2.png"]


def test_test_images_stay_apart_where_there_are_validation_images(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "test/a/3.png")
    source = ImageFolder(root=tmp_path)
    assert names(source, "val") == ["val/a/2.png"]
    assert names(source, "test") == ["test/a/3.png"]
    assert TEST_CHOOSES not in Split(source).notes


def test_test_images_validate_where_there_are_no_others_and_it_is_said(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/3.png")
    source = ImageFolder(root=tmp_path)
    assert source.splits == ("train", "test")
    assert len(Split(source).split("val")) == 1
    assert TEST_CHOOSES in Split(source).notes
    held_out = Split(source, val_fraction=0.5)
    assert TEST_CHOOSES not in held_out.notes
    assert len(held_out.split("test")) == 1


def test_one_folder_of_classes_is_all_for_training(tmp_path: Path) -> None:
    source = ImageFolder(root=plant(tmp_path, "cat/1.png", "dog/deep/er/2.png"))
    assert names(source) == ["cat/1.png", "dog/deep/er/2.png"]
    with pytest.raises(DataError, match=r"there is no val split .*set data\.val_fraction"):
        source.split("val")


def test_a_folder_with_validation_images_alone_can_be_evaluated(tmp_path: Path) -> None:
    source = ImageFolder(root=plant(tmp_path, "val/b/1.png", "val/c/1.png"))
    assert source.classes == ("b", "c")
    assert names(source, "val") == ["val/b/1.png", "val/c/1.png"]
    with pytest.raises(DataError, match="there is no train split"):
        source.split("train")


def test_classes_are_known_without_looking_at_images(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    assert ImageFolder(root=root).classes == ("cat", "dog")
    assert len(looked) == 2  # the root and train


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such dataset folder"),
        ("file", "a file where the dataset's folder should be"),
        ((), "there are no class folders"),
        (("1.jpg", "2.jpg"), "there are 2 images but no class folders"),
        (("train/1.jpg",), "there is 1 image but no class folders"),
    ],
)
def test_a_root_of_another_layout_is_refused_with_the_expected_one(
    tmp_path: Path, content: tuple[str, ...] | str | None, message: str
) -> None:
    root = tmp_path / "set"
    if content == "file":
        root.write_text("")
    elif content is not None:
        root.mkdir()
        plant(root, *content)
    with pytest.raises(DataError) as caught:
        ImageFolder(root=root)
    assert caught.value.what == message
    assert caught.value.exit_code == 3
    assert "ROOT/train/CLASS" in str(caught.value)


# Classes


def test_validation_classes_are_matched_by_name(tmp_path: Path) -> None:
    plant(tmp_path, *(f"train/{c}/1.png" for c in "abc"), "val/a/1.png", "val/c/1.png")
    source = ImageFolder(root=tmp_path)
    assert source.split("val").targets.tolist() == [0, 2]
    assert source.notes == ("val has no images of 1 class: b",)


def test_an_unknown_validation_class_is_refused(root: Path) -> None:
    plant(root, "val/horse/1.png")
    with pytest.raises(DataError, match="class 'horse' is in val but not in train"):
        ImageFolder(root=root).split("val")


def test_training_on_one_class_is_refused_but_not_evaluating(tmp_path: Path) -> None:
    source = ImageFolder(root=plant(tmp_path, "train/cat/1.png", "val/cat/1.png"))
    with pytest.raises(DataError, match="there is only one class, 'cat'"):
        Split(source).check_training()
    assert len(source.split("train")) == len(source.split("val")) == 1


def test_an_empty_training_class_is_refused(root: Path) -> None:
    for i in range(7):
        (root / "train" / f"empty{i}").mkdir()
    with pytest.raises(DataError, match=r"no images in class empty0, .*empty4 and 2 more"):
        Split(ImageFolder(root=root)).check_training()


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_class_is_the_same_in_both_unicode_forms(tmp_path: Path) -> None:
    plant(tmp_path, f"train/{NFD}/1.png", "train/tea/1.png", f"val/{NFC}/1.png", "val/tea/1.png")
    source = ImageFolder(root=tmp_path)
    assert source.classes == (NFC, "tea")
    assert source.split("val").targets.tolist() == [0, 1]
    assert source.notes == ()
    plant(tmp_path / "other", f"train/{NFC}/1.png", "train/caff/1.png", f"val/{NFD}/1.png")
    # The order is that of the names as they are shown, on whatever system they were written.
    assert ImageFolder(root=tmp_path / "other").classes == ("caff", NFC)


@pytest.mark.parametrize("split", ["train", "val"])
def test_two_folders_of_one_class_are_refused_with_both_names(root: Path, split: str) -> None:
    plant(root, "train/café/1.png", *(f"{split}/{form}/1.png" for form in (NFC, NFD)))
    with pytest.raises(DataError, match="two folders are one class, 'café'") as caught:
        ImageFolder(root=root).split(split)
    assert r"'cafe\u0301' and 'caf\xe9'" in str(caught.value)


def test_a_class_in_other_capitals_is_answered_with_the_right_one(root: Path) -> None:
    plant(root, "val/Cat/1.png")
    with pytest.raises(DataError, match=r"class 'Cat' is in val but .* train has 'cat'"):
        ImageFolder(root=root).split("val")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train-0.tar", "data.name=webdataset"),
        ("train.Parquet", "data.name=parquet"),
        ("labels.csv", "data.name=csv data.file=LIST"),
        ("bloodmnist.npz", "data.name=medmnist data.file=FILE"),
    ],
)
def test_what_another_source_reads_is_pointed_at(tmp_path: Path, name: str, source: str) -> None:
    plant(tmp_path, "1.png")
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"1 image but no class folders.*; .* by {source}$"):
        ImageFolder(root=tmp_path)


def test_a_folder_of_folders_alone_is_answered_with_the_inner_root(tmp_path: Path) -> None:
    plant(tmp_path, "photos/train/cat/1.png", "photos/val/cat/1.png")
    with pytest.raises(DataError, match=r"only one class, 'photos' .*train, val .*root=.*/photos"):
        Split(ImageFolder(root=tmp_path)).check_training()


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ("2024-06-01/fish/1.png 2024-06-01/crab/1.png 2024-06-02/fish/er/1.png", "(fish)"),
        ("cat/front/1.png cat/side/1.png dog/side/1.png dog/front/1.png", "(front, side)"),
        ("cat/front/1.png cat/2.png dog/front/1.png", None),  # cat holds an image itself
        ("cat/may/1.png dog/june/1.png", None),
        ("cat/may/1.png dog/june/1.png rat/may/1.png", None),  # dog shares none
    ],
)
def test_folders_that_classes_share_are_asked_about(
    tmp_path: Path, names: str, asked: str | None
) -> None:
    source = ImageFolder(root=plant(tmp_path, *names.split()))
    source.split("train")
    asks = [note for note in source.notes if "if those are the classes" in note]
    assert len(asks) == (asked is not None)
    assert all(f"have the same names {asked}" in note for note in asks)


def test_splits_inside_of_classes_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{c}/{s}/1.png" for c in ("cat", "dog") for s in ("train", "test")))
    with pytest.raises(DataError, match=r"the same names \(test, train\) .* put the splits first"):
        ImageFolder(root=tmp_path).split("train")


def test_names_that_differ_by_case_only_are_told(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{name}/1.png" for name in ("Cat", "cat")))
    (note,) = ImageFolder(root=tmp_path).notes
    assert "'Cat' and 'cat' differ by case" in note


def test_the_order_of_numeric_names_is_told(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{i}/1.png" for i in range(1, 12)))
    (note,) = ImageFolder(root=tmp_path).notes
    assert note == "classes are in the order of their names as text: 1, 10, 11, 2, 3, ..."


def test_without_a_training_folder_the_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    plant(tmp_path, "val/dog/1.png", "test/cat/1.png", "test/dog/2.png")
    source = ImageFolder(root=tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.split("val").targets.tolist() == [1]
    assert source.split("test").targets.tolist() == [0, 1]
    assert "val has no images of 1 class: cat" in source.notes


# What is ignored


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.xyz", "b.XYZ", "c"), r"; ignored: 3 files that are no images \(.xyz 2, no ending 1\)"),
        ((".x.png", "@eaDir/1.png"), r"; ignored: 2 hidden or leftover .* \(\.\* 1, @eaDir 1\)"),
        ((), r"in class emu \("),
    ],
)
def test_what_was_ignored_is_in_the_error_on_an_empty_class(
    root: Path, names: tuple[str, ...], said: str
) -> None:
    (root / "train/emu").mkdir()
    plant(root / "train/emu", *names)
    with pytest.raises(DataError, match=said) as caught:
        Split(ImageFolder(root=root)).check_training()
    assert caught.value.what.startswith("there are no images in class emu")


def test_what_was_ignored_is_in_the_error_on_a_folder_without_images(tmp_path: Path) -> None:
    plant(tmp_path / "flat", "1.xyz", "2.xyz")
    with pytest.raises(DataError, match=r"no class folders; ignored: 2 files .*\(.xyz 2\)"):
        ImageFolder(root=tmp_path / "flat")
    plant(tmp_path / "set", "train/a/1.png", "train/b/1.png", "val/a/1.xyz")
    with pytest.raises(DataError, match=r"there are no images; ignored: 1 file that .*\(.xyz 1\)"):
        ImageFolder(root=tmp_path / "set").split("val")


def test_what_two_splits_have_in_common_is_said_once(tmp_path: Path) -> None:
    days = [f"{s}/{d}/{k}/1.png" for s in ("train", "val") for d in "12" for k in ("fish", "crab")]
    source = ImageFolder(root=plant(tmp_path, *days))
    for name in ("train", "val"):
        source.split(name)
    assert sum("if those are the classes" in note for note in source.notes) == 1


def test_images_beside_the_classes_are_told(tmp_path: Path) -> None:
    source = ImageFolder(root=plant(tmp_path, "a/1.png", "b/1.png", "2.png"))
    source.split("train")
    assert source.notes == ("warning: ignored 1 image beside the class folders in the folder",)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "thumbs"])
def test_leftovers_are_no_classes_and_no_images(root: Path, name: str) -> None:
    plain = names(ImageFolder(root=root))
    plant(root, f"{name}/cat/1.png", f"train/{name}/1.png", f"train/cat/{name}/1.png/thumb.png")
    source = ImageFolder(root=root)
    assert source.classes == ("cat", "dog")
    assert names(source) == plain
    assert {"in the folder", "in train"} == {
        note[note.index(" in ") + 1 :] for note in source.notes
    }


def test_hidden_folders_and_files_are_ignored_and_counted(root: Path) -> None:
    plant(root, "train/.ipynb_checkpoints/1.png", "train/__MACOSX/cat/1.png")
    plant(root, "train/cat/.hidden.png", "train/cat/.thumbs/1.png", "train/.DS_Store")
    source = ImageFolder(root=root)
    assert source.classes == ("cat", "dog")
    assert len(source.split("train")) == 3
    assert source.notes == (
        "ignored 5 hidden or leftover files and folders "
        "(.* 2, .DS_Store 1, .ipynb_checkpoints 1, __MACOSX 1) in train",
    )


def test_other_files_are_ignored_and_counted_by_ending(root: Path) -> None:
    plant(root, "train/cat/a.txt", "train/cat/b.TXT", "train/dog/c.heic", "train/dog/README")
    source = ImageFolder(root=root)
    assert names(source) == ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png"]
    (note,) = source.notes
    assert note.startswith("warning: ignored 4 files that are no images (.txt 2, ")
    assert "no ending 1" in note


def test_a_few_other_files_are_no_warning(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(20)), "a/notes.txt")
    source = ImageFolder(root=tmp_path)
    source.split("train")
    assert source.notes == ("ignored 1 file that is no image (.txt 1) in the folder",)


def test_endings_count_in_either_case(tmp_path: Path) -> None:
    assert names(ImageFolder(root=plant(tmp_path, "a/1.PNG", "b/2.Jpg"))) == ["a/1.PNG", "b/2.Jpg"]


# Links


@pytest.mark.timeout(20)
def test_loops_of_links_add_no_image(root: Path) -> None:
    plain = names(ImageFolder(root=root))
    cat, dog = root / "train/cat", root / "train/dog"
    (cat / "self").symlink_to(cat)
    (cat / "again").symlink_to(cat)
    (cat / "up").symlink_to(root)
    (cat / "other").symlink_to(dog)
    (dog / "other").symlink_to(cat)
    source = ImageFolder(root=root)
    assert names(source) == plain
    assert "ignored 5 links to folders listed anyway in train" in source.notes


def test_a_link_out_of_the_root_is_followed_only_when_asked(root: Path, tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", "7.png", "back/8.png")
    (outside / "loop").symlink_to(outside)
    (root / "train/cat/more").symlink_to(outside)
    with pytest.raises(DataError, match=r"leads out of the dataset.*data\.follow_links=true"):
        ImageFolder(root=root).split("train")
    found = names(ImageFolder(root=root, follow_links=True))
    assert "train/cat/more/7.png" in found
    assert "train/cat/more/back/8.png" in found
    assert len(found) == 5


def test_a_class_may_be_a_link_when_links_are_followed(root: Path, tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere", "5.png")
    (root / "train/emu").symlink_to(tmp_path / "elsewhere")
    assert ImageFolder(root=root, follow_links=True).split("train").targets.tolist() == [0, 0, 1, 2]


def test_a_linked_file_out_of_the_root_is_refused(root: Path, tmp_path: Path) -> None:
    plant(tmp_path, "secret.png")
    (root / "train/cat/link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the dataset"):
        ImageFolder(root=root).split("train")


def test_a_broken_link_is_a_bad_image(root: Path) -> None:
    (root / "train/cat/broken.png").symlink_to(root / "gone.png")
    samples = ImageFolder(root=root).split("train")
    index = next(i for i in range(len(samples)) if samples.name(i).endswith("broken.png"))
    with pytest.raises(DataError, match="no such image file"):
        samples.image(index)


def test_a_link_to_nowhere_that_may_be_a_class_is_said_with_a_warning(root: Path) -> None:
    (root / "train/emu").symlink_to("/gone/emu")
    (root / "train/cat/more").symlink_to("more")  # to itself
    source = ImageFolder(root=root)
    assert len(names(source)) == 3
    assert source.notes == ("warning: ignored 2 links that lead nowhere (more, emu) in train",)


def test_a_link_to_nowhere_that_is_named_like_a_split_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "train/cat/1.png", "train/dog/1.png")
    (tmp_path / "Validation").symlink_to("/gone/val")
    with pytest.raises(DataError, match=r"a link leads nowhere \(.*Validation\): mend it"):
        ImageFolder(root=tmp_path)


def test_a_bin_by_a_word_of_a_language_is_passed_over_with_a_warning(root: Path) -> None:
    plant(root, "train/Papierkorb/1.png")
    source = ImageFolder(root=root)
    assert (source.classes, len(source.split("train"))) == (("cat", "dog"), 3)
    said = "ignored 1 hidden or leftover file or folder (Papierkorb 1) in train"
    assert source.notes == (f"warning: {said}",)


@pytest.mark.timeout(20)
def test_a_link_that_leads_to_itself_is_a_bad_image(root: Path) -> None:
    (root / "train/cat/x.png").symlink_to("x.png")
    samples = ImageFolder(root=root).split("train")
    index = next(i for i in range(len(samples)) if samples.name(i).endswith("x.png"))
    with pytest.raises(DataError, match="cannot read the image file"):
        samples.image(index)


def test_a_folder_without_permission_is_named() -> None:
    with as_nobody() as folder:
        plant(folder, "cat/1.png", "dog/1.png")
        (folder / "cat").chmod(0)
        with pytest.raises(DataError, match=r"cannot list the folder: Permission denied \(.*cat\)"):
            ImageFolder(root=folder).split("train")


def test_a_link_to_what_is_not_listed_otherwise_is_followed(root: Path) -> None:
    plant(root, ".store/emu/5.png")
    (root / "train/emu").symlink_to("../.store/emu")
    (root / "val/cat").symlink_to("../train/cat")
    source = ImageFolder(root=root)
    assert names(source)[-1] == "train/emu/5.png"
    assert names(source, "val") == ["val/cat/1.png", "val/cat/2.png", "val/dog/9.png"]


def test_a_class_that_is_a_link_to_another_is_refused_with_the_reason(root: Path) -> None:
    (root / "train/kitty").symlink_to("cat")
    with pytest.raises(DataError, match=r"class kitty; ignored: 1 link .*: put a folder in"):
        Split(ImageFolder(root=root)).check_training()


def test_folders_may_be_nested_deeper_than_python_calls_functions(tmp_path: Path) -> None:
    plant(tmp_path, "a" + "/x" * 300 + "/1.png", "b/1.png")
    source, limit = ImageFolder(root=tmp_path), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert len(source.split("train")) == 2
    finally:
        sys.setrecursionlimit(limit)


# Names


@pytest.mark.parametrize(
    "name", [b"a b", "漢字".encode(), b"\xff\xfe", b"new\nline", b"\x1b[31mred", b"x" * 250]
)
def test_any_name_works_and_is_shown_safely(root: Path, name: bytes) -> None:
    folder = root / "train" / os.fsdecode(name)
    plant(folder, os.fsdecode(name) + ".png")
    source = ImageFolder(root=root)
    samples = source.split("train")
    index = next(i for i in range(3, -1, -1) if os.fsdecode(name) in samples.name(i))
    assert samples.image(index).size == (4, 4)
    for label in source.classes:
        label.encode("utf-8")
    Path(samples.name(index)).unlink()
    with pytest.raises(DataError) as caught:
        samples.image(index)
    assert caught.value.lines()[0].isprintable()


def test_paths_hold_any_strings_in_order() -> None:
    strings = ["", "a", "ü", os.fsdecode(b"\xff"), "b/c"]
    paths = Paths(strings)
    assert list(paths) == strings
    assert paths[-1] == "b/c"
    assert list(Paths([])) == []
    with pytest.raises(IndexError):
        paths[5]


def test_the_real_cifar10_is_read_whole() -> None:
    folder = os.environ.get("VTRAIN_CIFAR10")
    if not folder:
        pytest.skip("VTRAIN_CIFAR10 is not set")
    source = ImageFolder(root=Path(folder))
    assert source.classes == TABLE["cifar10"].classes
    assert source.split("train").targets.bincount().tolist() == [5000] * 10
    assert Split(source).split("val").targets.bincount().tolist() == [1000] * 10
    assert source.notes == ()
    assert source.split("test").targets.bincount().tolist() == [1000] * 10


def test_splits_by_unknown_names_are_asked_about_where_validation_is_missing(
    tmp_path: Path,
) -> None:
    plant(tmp_path, *(f"{s}/{c}/{n}.png" for s in ("a", "b") for c in ("cat", "dog") for n in "12"))
    folder = ImageFolder(root=tmp_path)
    folder.split("train")
    with pytest.raises(DataError, match="or call the folders above them train and val"):
        folder.split("val")
