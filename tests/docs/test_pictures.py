"""The pictures of the README are drawn from a run, whole, small, and agree with one another."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.docs.pictures import FOLDER, mistakes, shortened, terminal

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    """Return the lines of text in a picture."""
    return [text.text or "" for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_a_terminal_shows_every_line_as_it_was_printed() -> None:
    lines = ["$ vtrain fit photos", "model   a <small> & one", "", "x" * 150]
    assert texts(terminal(lines)) == [*lines[:3], "x" * 100, "x" * 50]


def test_most_epochs_are_left_out() -> None:
    epochs = [f"epoch {i}/9  loss 1.0" for i in range(1, 10)]
    assert list(shortened(["run     x", *epochs, "done"])) == [
        *("run     x", epochs[0], epochs[1], "...", epochs[-2], epochs[-1], "done")
    ]
    assert list(shortened(epochs[:3])) == epochs[:3]


def test_a_class_has_a_row_and_a_column() -> None:
    matrix = np.array([[3, 1], [0, 4]])
    assert texts(mistakes(matrix, ["a & b", "c"])) == [
        "a & b",
        "3",
        "1",
        "c",
        "0",
        "4",
        "a & b",
        "c",
    ]


@pytest.mark.parametrize("name", ["run.svg", "confusion.svg"])
def test_a_picture_is_small_and_asks_for_nothing(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert len(text) < 30_000
    assert not re.search(r"href|url\(|<script|<image", text)
    for page in (Path("README.md"), Path("README.zh.md"), Path("docs/en/start.md")):
        assert f"pictures/{name})" in page.read_text(encoding="utf-8"), page


def test_both_pictures_are_of_one_run() -> None:
    lines = texts((FOLDER / "run.svg").read_text(encoding="utf-8"))
    cells = [int(t) for t in texts((FOLDER / "confusion.svg").read_text()) if t.isdigit()]
    matrix = np.array(cells).reshape(int(len(cells) ** 0.5), -1)
    (top1,) = re.findall(r"best\.pt has val/top1 ([\d.]+)", "\n".join(lines))
    assert round(float(np.trace(matrix) / matrix.sum()), 4) == float(top1)


def test_the_screen_is_what_a_run_says() -> None:
    text = "\n".join(texts((FOLDER / "run.svg").read_text(encoding="utf-8")))
    for start in ("$ vtrain fit ", "photos  ", "time    ", "epoch 1/", "best.pt has ", "weakest "):
        assert re.search(f"^{re.escape(start)}", text, re.M), start
    assert "next:" in text
