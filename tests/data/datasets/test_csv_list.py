from pathlib import Path

import pytest

from tests.data.pictures import plant
from vtrain.data.datasets.csv_list import CsvList
from vtrain.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return plant(tmp_path, "a/1.png", "b/2.png", "b/3.png")


def listed(folder: Path, text: str | bytes) -> Path:
    file = folder / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_paths_labels_and_splits_are_read(folder: Path) -> None:
    text = "path,label,split\na/1.png,cat,train\nb/2.png,ant,train\nb/3.png,cat,val\n"
    source = CsvList(file=listed(folder, text))
    assert source.classes == ("ant", "cat")
    train, val = source.split("train"), source.split("val")
    assert [train.name(i) for i in range(2)] == [str(folder / "a/1.png"), str(folder / "b/2.png")]
    assert (train.targets.tolist(), val.targets.tolist()) == ([1, 0], [1])
    assert val.image(0).size == (4, 4)


def test_columns_may_come_in_any_order_with_quotes_and_a_byte_order_mark(folder: Path) -> None:
    text = b'\xef\xbb\xbflabel,path\n"a, b",a/1.png\r\n"c ""d""",b/2.png\r\n'
    source = CsvList(file=listed(folder, text))
    assert source.classes == ("a, b", 'c "d"')


def test_paths_may_be_relative_to_another_folder(folder: Path, tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label\n1.png,x\n../b/2.png,y\n")
    train = CsvList(file=file, root=folder / "a").split("train")
    assert [train.image(i).size for i in range(2)] == [(4, 4)] * 2


def test_test_images_validate_where_there_are_no_others(folder: Path) -> None:
    text = "path,label,split\na/1.png,x,train\nb/2.png,y,train\nb/3.png,y,test\n"
    assert CsvList(file=listed(folder, text)).split("val").targets.tolist() == [1]


def test_without_a_column_split_all_images_train(folder: Path) -> None:
    source = CsvList(file=listed(folder, "path,label\na/1.png,x\nb/2.png,y\n"))
    assert len(source.split("train")) == 2
    with pytest.raises(DataError, match=r"no val images .*: set data\.val_fraction"):
        source.split("val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list has other columns"),
        ("path,label\n", "the list names no images"),
        ("a/1.png,cat\n", "the first line must name the columns"),
        ("path,label,splitt\na,b,c\n", "the first line must name the columns"),
        ("path,label\na/1.png\n", r"list\.csv:2\)"),
        ("path,label\na/1.png,\n", "a line must have a value for each column"),
        ("path,label\na/1.png,x,y\n", "a line must have a value for each column"),
        ("path,label,split\na,x,train\nb,y,tarin\n", r"unknown split 'tarin' .*list\.csv:3\)"),
        ('path,label\n"a/1.png,x\n', "is not CSV"),
        (b"path,label\n\xff\xfe,x\n", "is not UTF-8 text"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(
    folder: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        CsvList(file=listed(folder, text))
    assert caught.value.exit_code == 3


def test_an_absent_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file or directory \(.*none\.csv\)"):
        CsvList(file=tmp_path / "none.csv")


def test_a_validation_class_that_training_lacks_is_refused(folder: Path) -> None:
    text = "path,label,split\na/1.png,x,train\nb/2.png,y,train\nb/3.png,z,val\n"
    with pytest.raises(DataError, match="class 'z' of the val images is not in train"):
        CsvList(file=listed(folder, text)).split("val")


def test_one_class_is_not_enough_to_train(folder: Path) -> None:
    source = CsvList(file=listed(folder, "path,label\na/1.png,x\n"))
    with pytest.raises(DataError, match="only one class, 'x'"):
        source.split("train")
