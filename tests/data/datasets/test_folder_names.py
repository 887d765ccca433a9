import unicodedata

import pytest

from vtrain.data.datasets.folder_names import (
    absent_classes,
    class_name,
    is_leftover,
    split_of,
    splits_of,
)


@pytest.mark.parametrize(
    ("split", "names"),
    {
        "train": "train Train TRAIN training Training_Set train-images trainset",
        "val": "val Valid VALIDATION dev eval holdout hold-out val_set Validation-Data",
        "test": "test Testing TEST test_set Test.Images",
    }.items(),
)
def test_splits_are_known_by_their_usual_names_in_any_capitals(split: str, names: str) -> None:
    assert {split_of(name) for name in names.split()} == {split}
    assert split_of(f"{split} images") == split


@pytest.mark.parametrize(
    ("split", "names"),
    {
        "train": "训练集 訓練データ 学習用 Entrai\u0302nement ENTRAINEMENT Обучение train\u200b",
        "val": "验证集 検証 Validierung validacion VALIDAÇÃO validacao 검증데이터",
        "test": "测试集 測試 テスト画像 Testdaten Prueba Тест 테스트",
    }.items(),
)
def test_splits_are_known_in_other_languages_with_accents_or_without(
    split: str, names: str
) -> None:
    assert {split_of(name) for name in names.split()} == {split}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_splits_are_known_in_letters_of_full_width(split: str) -> None:
    for name in (split, split.upper(), f"{split}_set"):
        assert split_of("".join(chr(ord(letter) + 0xFEE0) for letter in name)) == split


@pytest.mark.parametrize("name", ["trains", "retrain", "tester", "invalid", "value", "test1", ""])
def test_other_names_are_no_split(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train2017 val2017", {"train2017": "train", "val2017": "val"}),
        ("train_2014 Test-2015 cat", {"train_2014": "train", "Test-2015": "test"}),
        ("train val1", {"train": "train", "val1": "val"}),
        ("images_train images_val", {"images_train": "train", "images_val": "val"}),
        ("test1 test2 test3", {}),
        ("test1 cat", {}),
        ("train cat", {"train": "train"}),
        ("1 2 2017", {}),
    ],
)
def test_numbers_behind_a_split_count_beside_another_split(
    names: str, splits: dict[str, str]
) -> None:
    assert splits_of(names.split()) == splits


@pytest.mark.parametrize(
    ("present", "said"),
    [
        ("abcdefg", []),
        ("abcdef", ["val has no images of 1 class: g"]),
        ("a", ["val has no images of 6 classes: b, c, d, e, f and 1 more"]),
    ],
)
def test_absent_classes_are_counted_and_named(present: str, said: list[str]) -> None:
    assert absent_classes("val", "abcdefg", present) == said


SYSTEMS = """
@eaDir @EADIR #recycle $RECYCLE.BIN lost+found Thumbs.db THUMBS.DB desktop.ini __MACOSX ._1.png
.DS_Store .ipynb_checkpoints .x Thumbs .dropbox.cache .849C9593-D756-4E56-8D6E-42412F2A707B
.1.jpg.icloud .picasaoriginals .stversions .Trash-1000 ~snapshot trashbox @sharebin
Papierkorb corbeille Cestino Корзина 回收站 ごみ箱
"""


@pytest.mark.parametrize("name", SYSTEMS.split())
def test_what_systems_leave_behind_is_known(name: str) -> None:
    assert is_leftover(name)


@pytest.mark.parametrize(
    "name",
    ["cat", "recycle", "found", "#1", "@home", "$5", "__init__", "1.png", "trash", "Bin", "waste"],
)
def test_what_a_person_may_have_named_is_none(name: str) -> None:
    assert not is_leftover(name)


def test_a_class_has_one_name_in_both_unicode_forms() -> None:
    forms = {unicodedata.normalize(form, "Café ") for form in ("NFC", "NFD")}
    assert len(forms) == 2
    assert {class_name(form) for form in forms} == {"Caf\xe9"}
