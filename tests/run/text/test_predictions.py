"""Predictions as text, whole and as they come."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtrain.errors import ConfigError, DeviceError
from vtrain.inference.files import Prediction
from vtrain.run.text.predictions import Form, form_of, prediction_lines

CAT = Prediction("a.png", [("cat", 0.75), ("dog", 0.25)])
BAD = Prediction("b.png", [], "is no image")
DOG = Prediction("=c.png", [("dog", 0.5), ("cat", 0.5)])


def text(form: Form, *predictions: Prediction, sets: bool = False) -> str:
    return "\n".join(prediction_lines(predictions, form, sets=sets)) + "\n"


def rows(*predictions: Prediction, sets: bool = False) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text("csv", *predictions, sets=sets))))


@pytest.mark.parametrize("order", [(CAT, BAD, DOG), (BAD, CAT, DOG), (DOG, CAT, BAD)])
def test_csv_has_one_row_for_each_image(order: tuple[Prediction, ...]) -> None:
    found = rows(*order)
    assert [row["image"].lstrip("'") for row in found] == [p.image for p in order]
    for row, prediction in zip(found, order, strict=True):
        named = [(row["class"], row["probability"]), (row["class_2"], row["probability_2"])]
        expected = [(name, f"{p:.6f}") for name, p in prediction.classes] or [("", "")] * 2
        assert named == expected
        assert row["error"] == (prediction.error or "")


def test_csv_of_images_none_of_which_can_be_read_has_their_errors() -> None:
    assert rows(BAD, BAD) == [
        {"image": "b.png", "class": "", "probability": "", "error": "is no image"}
    ] * 2  # fmt: skip
    assert text("csv") == "image,class,probability,error\n"


def test_sets_of_classes_share_a_column() -> None:
    one = Prediction("a.png", [("cat", 0.75)], unsure=False)
    none = Prediction("b.png", [], unsure=True)
    both = Prediction("c.png", [("dog", 0.5), ("cat", 0.5)], unsure=True)
    found = rows(one, none, both, sets=True)
    assert [row["classes"] for row in found] == ["cat", "", "dog; cat"]
    assert [row["class"] for row in found] == ["cat", "", "dog"]
    assert [row["unsure"] for row in found] == ["false", "true", "true"]


@pytest.mark.parametrize("predictions", [(), (CAT,), (CAT, BAD, DOG)])
def test_json_is_one_list_and_jsonl_an_object_a_line(predictions: tuple[Prediction, ...]) -> None:
    expected = [prediction.to_dict() for prediction in predictions]
    assert json.loads(text("json", *predictions)) == expected
    lines = list(prediction_lines(predictions, "jsonl"))
    assert [json.loads(line) for line in lines] == expected
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_what_has_come_before_an_error_is_there(form: Form) -> None:
    def failing() -> Iterator[Prediction]:
        yield CAT
        raise DeviceError("out of memory")

    taken: list[str] = []
    with pytest.raises(DeviceError):
        taken.extend(prediction_lines(failing(), form))
    assert "cat" in "".join(taken)
    if form == "json":
        assert json.loads("\n".join(taken)) == [CAT.to_dict()]


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_a_prediction_is_written_before_the_next_is_asked_for(form: Form) -> None:
    asked: list[int] = []

    def counted() -> Iterator[Prediction]:
        for number in range(3):
            asked.append(number)
            yield CAT

    lines = prediction_lines(counted(), form)
    next(lines)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("name", "asked", "form"),
    [
        ("x.csv", None, "csv"),
        ("x.CSV", None, "csv"),
        ("x.json", None, "json"),
        ("x.jsonl", None, "jsonl"),
        ("x.ndjson", "jsonl", "jsonl"),
        ("x.txt", None, "table"),
        ("x.txt", "csv", "csv"),
        ("x", None, "table"),
        ("x", "json", "json"),
        (None, None, "table"),
        (None, "csv", "csv"),
    ],
)
def test_the_ending_of_a_file_chooses_its_form(name: str | None, asked: Form, form: Form) -> None:
    assert form_of(None if name is None else Path(name), asked) == form


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("x.xlsx", None, "are not written as .xlsx"),
        ("x.parquet", "csv", "are not written as .parquet"),
        ("x.csv", "json", "--format json is not what a name in .csv promises"),
        ("x.json", "table", "--format table is not what a name in .json promises"),
    ],
)
def test_a_form_that_is_not_what_the_ending_says_is_refused(
    name: str, asked: Form, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        form_of(Path(name), asked)
    assert message in str(caught.value)
