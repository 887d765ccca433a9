"""What is made of a run on several labels an image: reports, files, ensembles, maps, a server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.harness import Vtrain
from tests.run.labelled_images import CLASSES, config_of
from vtrain.config import load_config
from vtrain.files.checkpoint import Checkpoint
from vtrain.report.predictions import Predictions
from vtrain.run.fit import fit
from vtrain.run.request import Request
from vtrain.run.serve import served


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs, the second tuned from the first; tests change copies of them."""
    folder = tmp_path_factory.mktemp("squares")
    config = config_of(folder)
    made = [fit(Request(load_config(config), "squares", folder / "one"))]
    changes = [f"model.pretrained={made[0] / 'best.pt'}", "seed=1", "train.epochs=2"]
    return [*made, fit(Request(load_config(config, changes), "squares", folder / "two"))]


@pytest.fixture
def copy(runs: list[Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs[0], tmp_path / "run"))


def images(runs: list[Path], count: int) -> list[Path]:
    return [runs[0].parent / f"{number}.png" for number in range(120, 120 + count)]


def test_a_report_has_figures_of_each_class_and_what_occurs_together(
    copy: Path, vtrain: Vtrain
) -> None:
    result = vtrain("report", copy)
    assert result.code == 0, result.err
    metrics = Checkpoint.load(copy / "best.pt").metrics
    assert f"{metrics['val/map']:.3f}" in result.out
    page = (copy / "report.html").read_text()
    for text in ("mean average precision", "Together", "Furthest from their labels", *CLASSES):
        assert text in page
    assert "Confusion" not in page
    data = json.loads((copy / "report.json").read_text())["predictions"]
    assert data["overall"]["mean_average_precision"] == pytest.approx(metrics["val/map"])
    truth = Predictions.load(copy / "predictions.npz").targets
    for pair in data["together"]:
        first, second = (CLASSES.index(pair[key]) for key in ("first", "second"))
        assert pair["images"] == int((truth[:, first] * truth[:, second]).sum())
    rows = (copy / "per_class.csv").read_text().splitlines()
    assert rows[0].startswith("class,support,predicted,precision,recall,f1,average_precision")
    assert len(rows) == 1 + len(CLASSES)


def test_two_runs_are_compared_by_exact_match(runs: list[Path], vtrain: Vtrain) -> None:
    result = vtrain("report", *runs, "--against", runs[0])
    assert result.code == 0, result.err
    assert "best mAP" in result.out
    assert "top-1" not in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "RUN", "--calibrate", "OUT.pt"], "images of one class each"),
        (["report", "RUN", "--corruptions"], "--corruptions is for images of one class each"),
        (["eval", "--ckpt", "RUN", "--knn"], "--knn or --linear-probe is for images of one class"),
        (["export", "RUN", "--format", "timm"], "a folder for timm says nothing of thresholds"),
        (["explain", "IMAGE", "--ckpt", "RUN", "--faithfulness"], "this model names several"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(
    copy: Path, runs: list[Path], tmp_path: Path, vtrain: Vtrain, arguments: list[str], message: str
) -> None:
    names = {"RUN": copy, "OUT.pt": tmp_path / "out.pt", "IMAGE": images(runs, 1)[0]}
    result = vtrain(*(names.get(word, word) for word in arguments))
    assert result.code in (2, 3)
    assert len(result.errors) == 1
    assert message in result.errors[0]


def test_an_ensemble_is_the_mean_of_probabilities_at_the_mean_of_thresholds(
    runs: list[Path], vtrain: Vtrain
) -> None:
    parts = [Predictions.load(run / "predictions.npz") for run in runs]
    probabilities = np.mean([1 / (1 + np.exp(-p.logits.astype(float))) for p in parts], axis=0)
    thresholds = np.mean([part.thresholds for part in parts], axis=0)
    exact = ((probabilities >= thresholds) == parts[0].targets).all(1).mean()
    members = [word for run in runs for word in ("--ckpt", run)]
    found = json.loads(vtrain("eval", *members, "--json").out)
    assert found["val/exact_match"] == pytest.approx(exact)
    assert found["val/map"] == pytest.approx(found["members"][0]["val/map"], abs=0.2)
    assert "exact match over the best of them" in vtrain("eval", *members).out
    record = json.loads(vtrain("predict", *images(runs, 3), *members, "--format", "json").out)[2]
    expected = [CLASSES[k] for k in range(3) if probabilities[2, k] >= thresholds[k]]
    assert {one["class"] for one in record["predictions"]} == set(expected)


def test_views_are_averaged_by_their_sigmoids(copy: Path, vtrain: Vtrain) -> None:
    result = vtrain("eval", "--ckpt", copy, "--tta", "flip")
    assert result.code == 0, result.err
    assert "val/map" in result.out
    assert "exact match over the plain figure" in result.out


def test_a_soup_is_chosen_by_mean_average_precision_and_has_thresholds_of_its_own(
    runs: list[Path], tmp_path: Path, vtrain: Vtrain
) -> None:
    output = tmp_path / "soup.pt"
    result = vtrain("soup", *runs, "--output", output)
    assert result.code == 0, result.err
    assert "val/map" in result.out
    soup = Checkpoint.load(output)
    assert soup.metrics["val/map"] >= max(
        Checkpoint.load(run / "best.pt").metrics["val/map"] for run in runs
    )
    data = json.loads(vtrain("eval", "--ckpt", output, "--json").out)
    assert data["val/f1"] == pytest.approx(soup.metrics["val/f1"])


def test_a_map_is_drawn_with_the_probabilities_of_the_labels(
    runs: list[Path], tmp_path: Path, vtrain: Vtrain
) -> None:
    image, folder = images(runs, 1)[0], tmp_path / "maps"
    result = vtrain("explain", image, "--ckpt", runs[0], "--target", "red", "--output", folder)
    assert result.code == 0, result.err
    every = vtrain("predict", image, "--ckpt", runs[0], "--threshold", "0", "--format", "json")
    (record,) = json.loads(every.out)
    data = json.loads((folder / "explain.json").read_text())
    (explained,) = data["images"] if isinstance(data, dict) else data
    shown = {one["class"]: one["probability"] for one in explained["predictions"]}
    assert shown == pytest.approx(
        {one["class"]: one["probability"] for one in record["predictions"]}, abs=1e-5
    )


def test_an_exported_file_names_the_same_labels(
    runs: list[Path], tmp_path: Path, vtrain: Vtrain
) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    result = vtrain("export", runs[0], "--output", file)
    assert result.code == 0, result.err
    assert re.search(r"same (class|labels) on 100\.00%", result.out)
    paths = images(runs, 6)
    by_run, by_file = (
        json.loads(vtrain("predict", *paths, "--ckpt", ckpt, "--format", "json").out)
        for ckpt in (runs[0], file)
    )
    script = subprocess.run(
        [sys.executable, file.with_name("predict.py"), *paths], capture_output=True, check=True
    )
    for run, exported, plain in zip(by_run, by_file, json.loads(script.stdout), strict=True):
        of_run = {one["class"]: one["probability"] for one in run["predictions"]}
        for record in (exported, plain):
            found = {one["class"]: one["probability"] for one in record["predictions"]}
            assert found == pytest.approx(of_run, abs=1e-4)
    figures = json.loads(vtrain("eval", "--ckpt", file, *_data(runs[0]), "--json").out)
    own = json.loads(vtrain("eval", "--ckpt", runs[0], "--json").out)
    assert figures["val/exact_match"] == own["val/exact_match"]


def _data(run: Path) -> list[str]:
    return [f"data.file={run.parent / 'list.csv'}"]


def test_a_server_says_which_labels_reach_their_thresholds(runs: list[Path]) -> None:
    model = served(runs[0])
    row = np.array([0.9, 0.0, 0.99])
    answer = model.answer(row, 2)
    assert [one["class"] for one in answer["predictions"]] == ["red", "blue"]
    limits = dict(zip(CLASSES, model.thresholds, strict=True))
    assert answer["labels"] == [
        name for name, p in (("red", 0.99), ("blue", 0.9)) if p >= limits[name]
    ]
    assert ("Mean average precision") in dict(model.facts)
    assert model.examples
