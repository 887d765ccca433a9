import csv
import io
import os
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tests.data.pictures import plant
from vtrain.data.datasets.csv_list import CsvList
from vtrain.data.datasets.splits import Split
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


def test_blanks_around_values_do_not_count(folder: Path) -> None:
    text = 'Path , label,SPLIT\n a/1.png ,cat , Train\nb/2.png, "cat" ,train\nb/3.png,\tant,train\n'
    source = CsvList(file=listed(folder, text.replace('"cat" ', '"cat"')))
    assert source.classes == ("ant", "cat")
    train = source.split("train")
    assert train.targets.tolist() == [1, 1, 0]
    assert train.image(0).size == (4, 4)


def test_one_label_in_two_unicode_forms_is_one_class(folder: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    text = f"path,label,split\na/1.png,{nfc},train\nb/2.png,x,train\nb/3.png,{nfd},val\n"
    source = CsvList(file=listed(folder, text))
    assert (source.classes, source.split("val").targets.tolist()) == ((nfc, "x"), [0])


def test_paths_may_be_absolute_or_in_the_home_folder_or_written_by_windows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    lists = plant(tmp_path / "lists", "w/x.png", "back\\slash.png")
    text = f"path,label\n{folder}/a/1.png,x\n~/b/2.png,y\nw\\x.png,x\nback\\slash.png,x\n"
    train = CsvList(file=listed(lists, text)).split("train")
    names = [f"{folder}/a/1.png", f"{folder}/b/2.png", f"{lists}/w/x.png"]
    assert [train.name(i) for i in range(4)] == [*names, f"{lists}/back\\slash.png"]
    assert [train.image(i).size for i in range(4)] == [(4, 4)] * 4


def test_odd_labels_are_told_as_those_of_folders_are(folder: Path) -> None:
    rows = "".join(f"{i}.png,{i},train\n" for i in range(11))
    source = CsvList(file=listed(folder, f"path,label,split\n{rows}x.png,Cat,train\ny,cat,train\n"))
    assert source.notes == ("warning: classes 'Cat' and 'cat' differ by case or accents only",)
    source = CsvList(file=listed(folder, f"path,label,split\n{rows}v.png,3,val\n"))
    assert source.notes == (
        "classes are in the order of their names as text: 0, 1, 10, 2, 3, ...",
        "val has no images of 10 classes: 0, 1, 10, 2, 4 and 5 more",
    )


def test_images_that_are_listed_again_are_told(folder: Path) -> None:
    text = "path,label,split\na,x,train\n./a,x,train\nb,y,train\nb,x,train\na,x,val\nc,y,val\n"
    assert CsvList(file=listed(folder, text)).notes == (
        "3 images are listed more than once: a, b, a",
        "warning: 1 image is listed with different labels: b",
        "warning: 1 image is listed in more than one split: a",
    )


def test_a_class_of_another_case_in_validation_is_pointed_at(folder: Path) -> None:
    text = "path,label,split\na,Cat,train\nb,dog,train\nc,cat,val\n"
    with pytest.raises(DataError, match=r"'cat' of the val images .*did you mean 'Cat'\?"):
        CsvList(file=listed(folder, text)).split("val")


def test_test_images_validate_where_there_are_no_others(folder: Path) -> None:
    text = "path,label,split\na/1.png,x,train\nb/2.png,y,train\nb/3.png,y,test\n"
    source = CsvList(file=listed(folder, text))
    assert source.splits == ("train", "test")
    assert Split(source).split("val").targets.tolist() == [1]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_first_line_with_other_marks_says_what_stands_between_the_values(
    folder: Path, mark: str
) -> None:
    # As Excel writes where numbers have commas, with its byte order mark and its line ends.
    lines = [["label", "Path"], ["3,5", "a/1.png"], ["4,5", '"b/2.png"']]
    text = "\ufeff" + "".join(mark.join(line) + "\r\n" for line in lines)
    source = CsvList(file=listed(folder, text))
    assert source.classes == ("3,5", "4,5")
    train = source.split("train")
    assert [train.key(index) for index in range(len(train))] == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("blank", ["\n", "\ufeff\r\n", "  \n\n", "\t\r\n\n"])
def test_empty_lines_before_the_first_one_and_between_do_not_count(
    folder: Path, mark: str, blank: str
) -> None:
    lines = [["path", "label"], ["a/1.png", "x"], [" "], ["b/2.png", "y"], []]
    text = blank + "\n".join(mark.join(line) for line in lines)
    assert CsvList(file=listed(folder, text)).classes == ("x", "y")
    last = text.count("\n") + 2
    with pytest.raises(DataError, match=rf"value for each column \(.*list\.csv:{last}\)"):
        CsvList(file=listed(folder, f"{text}\nb/3.png\n"))


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
        ('path,label\n"a/1.png,x\n', r"is not CSV.*list\.csv:"),
        ("path;name\na;b\n", "other columns: path;name"),
        ("path;label\na;b,c;d\n", r"value for each column \(.*list\.csv:2\)"),
        ("path,label,path\na,b,c\n", "other columns: path,label,path"),
        ("path,label\na/1.png,  \n", r"value for each column \(.*list\.csv:2\)"),
        ("path,label\n\n,,\n", r"value for each column \(.*list\.csv:3\)"),
        ("path,label,split\na,x,train\nb,y,\n", r"value for each column \(.*list\.csv:3\)"),
        ('path,label\na,"c\td"\n', r"must be one line of text, not 'c\\td' \(.*list\.csv:2\)"),
        ("path,label\nD:\\pics\\1.png,x\n", r"a path of Windows \(.*:2\): in WSL .* /mnt/d;"),
        ("path,label\nhttps://x.org/1.png,x\n", r"only local images are read \(.*list\.csv:2\)"),
        (f"path,label\na,1\nb,{'7' * 5000}\n", r"one line of text, not '7+ \(.*list\.csv:3\)"),
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


def test_without_training_images_the_classes_are_those_of_all_splits(folder: Path) -> None:
    source = CsvList(file=listed(folder, "path,label,split\na/1.png,x,val\nb/2.png,y,test\n"))
    assert source.classes == ("x", "y")
    assert [source.split(name).targets.tolist() for name in ("val", "test")] == [[0], [1]]


def test_one_class_is_not_enough_to_train(folder: Path) -> None:
    source = CsvList(file=listed(folder, "path,label\na/1.png,x\n"))
    assert len(source.split("train")) == 1  # to evaluate it is enough
    with pytest.raises(DataError, match=r"only one class, 'x' \(.*list.csv\)"):
        Split(source).check_training()


# Random lists against a model of the rules, written anew: what it refuses is refused, and the rest
# gives its images and its classes.

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # What a cell may hold: usual values, and odd ones.
    "path": (
        ("a.png", "b/c.png", "/data/d.png", "e f.png", "g,h.png", 'i"j.png', "ü.png"),
        (" k.png", "l.png  ", "~/m.png", "n\\o.png", "", "http://x/p.png", "./a.png"),
    ),
    "label": (
        ("cat", "dog", "Cat", "1", "2", "10", "01", "a, b", 'the "x"', "猫", "é", "None"),
        (" cat", "dog ", "\tcat", "\xa0dog", "e\u0301", "", "  ", "a\nb", "c\x07", "1 "),
    ),
    "split": (
        ("train", "train", "train", "val", "test"),
        ("Training", " valid", "VALIDATION ", "TEST", "", "tarin"),
    ),
}


def random_table(draw: random.Random) -> list[list[str]]:
    """Columns in any order, and rows that are usual but for a few cells."""
    columns = ["path", "label", *(["split"] if draw.random() < 0.7 else [])]
    draw.shuffle(columns)
    oddness = draw.choice([0, 0, 0.02, 0.1])

    def cell(column: str) -> str:
        usual, odd = KINDS[column]
        return draw.choice(odd if draw.random() < oddness else usual)

    rows = [[cell(column) for column in columns] for _ in range(draw.randint(1, 12))]
    for row in rows:
        if draw.random() < oddness / 4:
            row.append("more")
    header = [draw.choice([name, name.upper(), f" {name} "]) for name in columns]
    return [header, *rows]


def written(table: list[list[str]], draw: random.Random) -> bytes:
    """As one of the programs that write lists would write it."""
    text = io.StringIO()
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = draw.choice(["\n", "\r\n"])
    csv.writer(text, quoting=quoting, lineterminator=end).writerows(table)
    blank = end if draw.random() < 0.2 else ""  # an empty line at the end
    return (text.getvalue() + blank).encode(draw.choice(["utf-8", "utf-8-sig"]))


def expected(table: list[list[str]], root: str) -> dict[str, list[tuple[str, str]]] | None:
    """The written rules: each split's paths and labels, or None where the list is refused."""
    columns = [name.strip().lower() for name in table[0]]
    splits: dict[str, list[tuple[str, str]]] = {}
    for row in table[1:]:
        if row == [""]:
            continue
        values = {name: value.strip() for name, value in zip(columns, row, strict=False)}
        label, path = unicodedata.normalize("NFC", values["label"]), values["path"]
        split = values.get("split", "train").lower()
        kept = {"train": "train", "training": "train", "test": "test"}
        kept |= dict.fromkeys(["val", "valid", "validation"], "val")
        bad = len(row) != len(columns) or "" in values.values() or "://" in path
        if bad or split not in kept or "\n" in label or "\x07" in label:
            return None
        path = path.replace("\\", "/").replace("~", os.environ["HOME"])
        place = path if path.startswith("/") else f"{root}/{path}"
        splits.setdefault(kept[split], []).append((place, label))
    return splits


@pytest.mark.parametrize("seed", range(3))
def test_random_lists_are_read_by_the_rules_or_refused(tmp_path: Path, seed: int) -> None:
    outcomes = Counter[str]()
    for number in range(100):
        draw = random.Random(f"{seed} {number}")
        table = random_table(draw)
        file = listed(tmp_path, written(table, draw))
        wanted = expected(table, str(tmp_path))
        if wanted is None:
            outcomes["refused"] += 1
            with pytest.raises(DataError, match=r"list\.csv:\d+\)"):
                CsvList(file=file)
            continue
        source = CsvList(file=file)
        # Where nothing is for training, the classes are those of all splits.
        first = wanted.get("train") or [row for rows in wanted.values() for row in rows]
        assert source.classes == tuple(sorted({label for _, label in first}))
        for split, rows in wanted.items():
            outcomes[check_split(source, split, rows)] += 1
    assert outcomes.keys() >= {"refused", "read"}


def check_split(source: CsvList, split: str, rows: list[tuple[str, str]]) -> str:
    unknown = {label for _, label in rows} - set(source.classes)
    if unknown:
        with pytest.raises(DataError, match=r"not in train"):
            source.split(split)
        return "split refused"
    samples = source.split(split)
    labels = [source.classes[target] for target in samples.targets.tolist()]
    assert list(zip(map(samples.name, range(len(samples))), labels, strict=True)) == rows
    return "read"


def test_a_root_that_is_not_there_is_told_before_any_image_is_read(tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(DataError, match="no such folder"):
        CsvList(file=file, root=tmp_path / "nowhere")


def test_a_table_of_excel_or_with_numbers_in_front_is_answered(folder: Path) -> None:
    table = folder / "x.xlsx"
    table.write_bytes(b"PK\x03\x04\x14\x00,\x00")
    with pytest.raises(DataError, match=r"Excel's, and no text .*: save it as CSV, in UTF-8"):
        CsvList(file=table)
    with pytest.raises(DataError, match="pandas leaves out the numbers in front with index=False"):
        CsvList(file=listed(folder, ",path,label\n0,a,x\n"))


def test_labels_that_stand_for_missing_values_are_asked_about(folder: Path) -> None:
    notes = CsvList(file=listed(folder, "path,label\na,nan\nb,cat\nc,naan\n")).notes
    assert notes == ("warning: class 'nan' may stand for missing labels",)
