from pathlib import Path

import numpy as np
import pytest

from benchmarks.planted_labels import Found, by_loss, judge, plant, table
from vtrain.report.predictions import Predictions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, count in (("train", 30), ("test", 2)):
        for name in ("bird", "cat", "dog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_text(f"{split} {name} {number}")
    return tmp_path / "data"


def test_a_share_of_the_labels_is_wrong_and_no_image_is_lost(data: Path, tmp_path: Path) -> None:
    planted, total = plant(data, tmp_path / "photos", 0.1, None, 0)
    assert (len(planted), total) == (9, 90)
    wrong, seen = set(), set()
    for path in (tmp_path / "photos" / "train").glob("*/*"):
        _, truth, number = path.read_text().split()
        seen.add((truth, number))
        if path.parent.name != truth:
            wrong.add(f"{path.parent.name}/{path.name}")
    assert wrong == planted
    assert len(seen) == 90
    assert len(list((tmp_path / "photos" / "test").glob("*/*"))) == 6


def test_the_seed_decides_and_a_second_time_changes_nothing(data: Path, tmp_path: Path) -> None:
    first = plant(data, tmp_path / "a", 0.1, 30, 0)
    assert plant(data, tmp_path / "a", 0.1, 30, 0) == first
    assert first[1] == len(list((tmp_path / "a" / "train").glob("*/*"))) == 30
    assert plant(data, tmp_path / "b", 0.1, 30, 1)[0] != first[0]


def test_a_list_is_judged_by_its_head() -> None:
    planted = {"cat/1", "cat/2", "dog/3", "dog/4"}
    names = ["x/train/cat/2", "x/train/dog/9", "x/train/dog/4", "x/train/dog/8", "x/train/cat/1"]
    assert judge(names, planted) == Found(2 / 4, 2 / 4)
    assert judge(names[:1], planted) == Found(1.0, 1 / 4)
    assert judge([], planted) == Found(0.0, 0.0)
    assert judge(names, set()) == Found(0.0, 0.0)


def test_folds_are_ranked_by_their_loss(tmp_path: Path) -> None:
    for fold in range(2):
        logits = np.array([[4.0 - fold, 0.0], [0.0, 2.0 + fold]], np.float32)
        ids = (f"{fold}a", f"{fold}b")
        (tmp_path / str(fold)).mkdir()
        about = {"split": "val"}
        Predictions(logits, np.array([1, 1]), ids, ("x", "y"), about).save(
            tmp_path / str(fold) / "predictions.npz"
        )
    assert by_loss([tmp_path / "0", tmp_path / "1"]) == ["0a", "1a", "0b", "1b"]


def test_the_table_says_how_much_better_the_report_is() -> None:
    found = {"vtrain report": Found(0.6, 0.5), "chance": Found(0.03, 0.03), "x": Found(0, 0)}
    report, chance, nothing = table(found, 30, 1000).splitlines()[2:]
    assert report.split()[-2:] == ["1.00", "x"]
    assert chance.split()[-2:] == ["20.00", "x"]
    assert nothing.split()[-1] == "-"
