"""Lists of several labels an image: what is read, and each mistake in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.pictures import plant
from vtrain.data.datasets.csv_list import CsvList
from vtrain.data.datasets.splits import Split
from vtrain.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return plant(tmp_path, "1.png", "2.png", "3.png")


def listed(folder: Path, text: str) -> Path:
    file = folder / "list.csv"
    file.write_bytes(text.encode())
    return file


def read(folder: Path, text: str, **keys: Any) -> CsvList:
    return CsvList(file=listed(folder, text), **keys)


def test_labels_stand_with_a_separator_between_them(folder: Path) -> None:
    text = "path,label,split\n1.png,dog;cat,train\n2.png, ant ; dog ,train\n3.png,cat,val\n"
    source = read(folder, text, label_separator=";")
    assert source.classes == ("ant", "cat", "dog")
    train, val = source.split("train"), source.split("val")
    assert train.targets.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert val.targets.tolist() == [[0, 1, 0]]
    assert (val.targets.dtype, val.image(0).size) == (torch.float32, (4, 4))


def test_a_separator_may_be_that_of_the_list_where_values_are_quoted(folder: Path) -> None:
    text = '\ufeffpath,label\n1.png,"dog, cat"\n2.png,"ant"\n'
    source = read(folder, text, label_separator=",")
    assert source.classes == ("ant", "cat", "dog")
    text = 'path;label\n1.png;"dog;cat"\n2.png;ant\n'
    assert read(folder, text, label_separator=";").classes == ("ant", "cat", "dog")


def test_a_separator_may_have_several_characters_and_a_label_commas(folder: Path) -> None:
    source = read(folder, 'path,label\n1.png,"a, b || c"\n', label_separator="||")
    assert source.classes == ("a, b", "c")


def test_a_column_for_each_class_says_zero_or_one(folder: Path) -> None:
    text = "path,Dog,cat,split\n1.png,1,0,train\n2.png,1.0,1,train\n3.png,0,1,val\n"
    source = read(folder, text, label_columns="all")
    assert source.classes == ("Dog", "cat")  # in the order of the list, with their capitals
    assert source.split("train").targets.tolist() == [[1, 0], [1, 1]]
    assert source.split("val").targets.tolist() == [[0, 1]]


def test_columns_may_be_chosen_in_another_order_and_others_stay_unread(folder: Path) -> None:
    text = "\ufeffage,path,dog,cat\n12,1.png,1,0\n,2.png,0,1\n"
    source = read(folder, text, label_columns=["cat", "dog"])
    assert source.classes == ("cat", "dog")
    assert source.split("train").targets.tolist() == [[0, 1], [1, 0]]
    text = "path;dog;cat\n1.png;1;0\n2.png;0;1\n"
    assert read(folder, text, label_columns=["cat", "dog"]).classes == ("cat", "dog")


def test_columns_may_hold_shares_and_the_reader_says_so(folder: Path) -> None:
    source = read(folder, "path,dog,cat\n1.png,0.25,0.75\n2.png,0,1\n", label_columns="all")
    assert source.split("train").targets.tolist() == [[0.25, 0.75], [0, 1]]
    assert "1 image with shares between 0 and 1 as labels" in source.notes


def test_one_label_a_row_in_both_forms_is_the_same(folder: Path) -> None:
    names = read(folder, "path,label\n1.png,b\n2.png,a\n3.png,b;a\n", label_separator=";")
    columns = read(folder, "path,a,b\n1.png,0,1\n2.png,1,0\n3.png,1,1\n", label_columns="all")
    assert torch.equal(names.split("train").targets, columns.split("train").targets)


def test_images_without_a_label_are_an_error_unless_they_are_allowed(folder: Path) -> None:
    names = "path,label\n1.png,a;b\n2.png,\n"
    columns = "path,a,b\n1.png,1,1\n2.png,0,0\n"
    ways: list[tuple[str, dict[str, Any]]] = [
        (names, {"label_separator": ";"}),
        (columns, {"label_columns": "all"}),
    ]
    for text, keys in ways:
        with pytest.raises(DataError, match=r"without a label .*list\.csv:3.*data\.allow_empty"):
            read(folder, text, **keys)
        source = read(folder, text, allow_empty=True, **keys)
        assert source.split("train").targets.tolist() == [[1, 1], [0, 0]]
        assert "1 image without a label" in source.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n1.png,a;a\n", r"label 'a' stands twice \(.*list\.csv:2\)"),
        ("path,label\n1.png,a;\n", r"no label at one side of ';' in 'a;' \(.*list\.csv:2\)"),
        ("path,label\n1.png,;\n", r"no label at one side of ';'"),
        ("path,label\n1.png,a,b\n", r"value for each column \(.*:2\): put quotes around"),
        ("path,label\n1.png,a|b\n2.png,c\n3.png,a|c\n", r"no label has ';' in it, and 2 have '\|'"),
        ("path,label,split\n1.png,a;b,train\n2.png,a;c,val\n", "'c' of the val images is not in"),
        ("path,label,split\n1.png,Cat;b,train\n2.png,cat,val\n", r"did you mean 'Cat'\?"),
        ('path,label\n1.png,"a;b\tc"\n', r"must be one line of text, not 'b\\tc' \(.*:2\)"),
        ("path,dog,cat\n1.png,1,0\n", "the list has other columns: path,dog,cat"),
        ("path,label\n,a;b\n", r"a line must have a value for each column \(.*:2\)"),
    ],
)
def test_a_mistake_in_names_is_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as found:
        read(folder, text, label_separator=";").split("val")
    assert len(found.value.lines()) == 1


@pytest.mark.parametrize("value", ["2", "-1", "yes", "", "nan", "inf", "0,5"])
def test_a_value_that_is_no_share_is_one_line(folder: Path, value: str) -> None:
    message = rf"column 'cat' has '{value}', not 0 or 1 \(.*list\.csv:3\)"
    with pytest.raises(DataError, match=message) as found:
        read(folder, f'path,dog,cat\n1.png,1,0\n2.png,1,"{value}"\n', label_columns="all")
    assert len(found.value.lines()) == 1


def test_a_column_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'cats', .*did you mean 'cat'\?"):
        read(folder, "path,dog,cat\n1.png,1,0\n", label_columns=["dog", "cats"])
    with pytest.raises(DataError, match="other columns: path,split"):
        read(folder, "path,split\n1.png,train\n", label_columns="all")
    with pytest.raises(DataError, match="other columns: path,a,a"):
        read(folder, "path,a,a\n1.png,1,0\n", label_columns="all")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"label_separator": ";", "label_columns": "all"}, "exclude each other"),
        ({"allow_empty": True}, "allow_empty is for label_separator or label_columns"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    folder: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(folder, "path,label\n1.png,a\n", **keys)


def test_what_is_odd_about_a_list_is_told(folder: Path) -> None:
    text = "path,label,split\n1.png,a,train\n2.png,b,train\n1.png,b,train\n3.png,a,val\n"
    assert read(folder, text, label_separator=";").notes == (
        "no image has more than one label",
        "val has no images of 1 class: b",
        "1 image is listed more than once: 1.png",
        "warning: 1 image is listed with different labels: 1.png",
    )


def test_a_part_is_held_out_with_every_class_in_training(folder: Path) -> None:
    rows = "".join(f"{n}.png,{'a;b' if n % 2 else 'a'}\n" for n in range(40)) + "x.png,a;c\n"
    source = Split(read(folder, f"path,label\n{rows}", label_separator=";"), val_fraction=0.3)
    train, val = source.split("train"), source.split("val")
    assert len(train) + len(val) == 41
    assert train.targets[:, 2].sum() == 1  # the only image of its class
    assert source.split("val").targets.shape[1] == 3
