import csv
import io
import json

import numpy as np
import pytest

from tests.report.cases import CASES, HOSTILE, hostile_predictions, predictions
from vtrain.report.analysis import analyse
from vtrain.report.document import analysis_data, per_class_csv
from vtrain.report.metrics import confusion_matrix
from vtrain.report.plain import inert
from vtrain.report.scores import Scores


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_every_analysis_is_json_without_nan(scores: Scores) -> None:
    counts = [1] * scores.num_classes
    data = analysis_data(analyse(predictions(scores), counts))
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again["overall"]["accuracy"] == scores.correct.mean()
    matrix = np.zeros((scores.num_classes,) * 2, int)
    for cell in again["matrix"]:
        true, given = (data["classes"].index(cell[key]) for key in ("true", "predicted"))
        matrix[true, given] = cell["images"]
    np.testing.assert_array_equal(matrix, confusion_matrix(scores))
    assert [row["class"] for row in again["per_class"]] != []


def test_names_stand_where_numbers_did() -> None:
    p = hostile_predictions()
    data = analysis_data(analyse(p))
    for gallery in data["galleries"].values():
        for example in gallery:
            assert example["image"] in p.ids
            assert example["true"] in HOSTILE
    assert {pair["first"] for pair in data["pairs"]} <= set(HOSTILE)
    for suspect in data["labels"]["suspects"]:
        assert p.classes[p.targets[p.ids.index(suspect["image"])]] == suspect["label"]


def test_per_class_csv_holds_the_figures_and_runs_nothing() -> None:
    analysis = analyse(hostile_predictions())
    rows = list(csv.DictReader(io.StringIO(per_class_csv(analysis))))
    assert {row["class"] for row in rows} == {str(inert(name)) for name in HOSTILE}
    assert "'=HYPERLINK(1)" in {row["class"] for row in rows}
    f1 = [float(row["f1"]) for row in rows]
    assert f1 == sorted(f1)
    assert sum(int(row["support"]) for row in rows) == 60
