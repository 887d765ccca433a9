"""`vtrain explain --features` on runs that the real command left."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.harness import Vtrain
from vtrain.explain.separation import MEASURES, separation
from vtrain.inference.loaded import load_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_models_are_measured_on_the_same_images(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    done = vtrain("explain", "--features", "--ckpt", trained, "--against", trained / "last.pt",
                  "--save", "x.npz", "--output", "out", "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data == json.loads((here / "out/features.json").read_text())
    saved = np.load("x.npz")
    labels, values = saved["labels"], saved["features"]
    assert data["images"] == len(labels) == len(values) == len(saved["features_against"])
    # The saved features and the head say what the model says.
    loaded = load_model(trained)
    head = loaded.model.head
    logits = values @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    top1 = loaded.checkpoint.metrics["val/top1"]
    assert (logits.argmax(1) == labels).mean() == pytest.approx(top1, abs=1e-6)
    assert tuple(saved["classes"]) == loaded.classes
    expected = separation(values, labels)
    for name in MEASURES:
        assert data["models"][0][name]["value"] == expected[name].value
    assert data["difference"].keys() == MEASURES.keys()


def test_the_page_needs_nothing_else_and_shows_both_planes(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    done = vtrain("explain", "--features", "--ckpt", trained, "--output", "out")
    assert done.code == 0, done.err
    assert "effective rank" in done.out
    page = (here / "out/features.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert '<th scope="row">silhouette (cosine)</th>' in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--features x.png", 2, "--features takes the validation images of the run"),
        ("--features --model", 2, "--model has no effect with --features"),
        ("--features --method ig", 2, "--method has no effect with --features"),
        ("--features --target a", 2, "--target has no effect with --features"),
        ("--model --save x.npz", 2, "--save has no effect without --features"),
        ("--features --save used.npz", 5, "there is something already"),
        ("--features --save .", 5, "there is something already"),
        ("--features --ckpt nowhere", 4, "no such checkpoint"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    here: Path, trained: Path, vtrain: Vtrain, arguments: str, code: int, message: str
) -> None:
    Path("used.npz").touch()
    ckpt = [] if "--ckpt" in arguments else ["--ckpt", trained]
    done = vtrain("explain", *arguments.split(), *ckpt)
    assert done.code == code
    (line,) = done.errors
    assert line.startswith(f"vtrain: error: {message}")
    assert list(here.iterdir()) == [here / "used.npz"]


def test_features_that_are_not_finite_are_refused(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    checkpoint = load_model(trained).checkpoint
    for tensor in checkpoint.weights.values():
        tensor.fill_(float("nan"))
    checkpoint.save(here / "nan.pt")
    done = vtrain("explain", "--features", "--ckpt", "nan.pt")
    assert (done.code, len(done.errors)) == (4, 1)
    assert "the model's features are not finite" in done.err
