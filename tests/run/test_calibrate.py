"""Calibrated checkpoints and predictions that may be unsure, by the real commands."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints import small_checkpoint
from tests.conftest import tiny
from tests.harness import Vtrain
from tests.report.cases import calibrated_scores
from vtrain.data.preprocess import Preprocess
from vtrain.files import manifest
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.registry import MODELS
from vtrain.report.predictions import Predictions
from vtrain.report.reject import conformal_threshold
from vtrain.report.temperature import fit_temperature
from vtrain.run.calibrate import divided


@pytest.fixture
def run(small_run: Path, vtrain: Vtrain) -> Path:
    """A finished run whose predictions were replaced by overconfident ones of 400 images."""
    assert vtrain("fit", small_run, "--run-dir", "run").code == 0
    path = Path("run/predictions.npz")
    about = Predictions.load(path).about
    scores = calibrated_scores(400, 4)
    ids, classes = tuple(map(str, range(400))), tuple(f"class_{k}" for k in range(4))
    Predictions(scores.logits * 3, scores.targets, ids, classes, about).save(path)
    return Path("run")


def probabilities(vtrain: Vtrain, ckpt: object, *options: object) -> list[dict[str, Any]]:
    from PIL import Image

    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    images = ("0.png", "1.png", "2.png")
    done = vtrain("predict", *images, "--ckpt", ckpt, "--format", "json", *options)
    assert done.code == 0, done.err
    records: list[dict[str, Any]] = json.loads(done.out)
    return records


def test_a_calibrated_checkpoint_divides_the_logits(run: Path, vtrain: Vtrain) -> None:
    done = vtrain("report", run, "--calibrate", "calibrated.pt")
    assert done.code == 0, done.err
    predictions = Predictions.load(run / "predictions.npz")
    temperature = fit_temperature(predictions.logits, predictions.targets)
    assert temperature == pytest.approx(3, rel=0.1)
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        before, after = (load_model(p).model(images) for p in (run, "calibrated.pt"))
    torch.testing.assert_close(after, before / temperature)
    pairs = zip(probabilities(vtrain, run), probabilities(vtrain, "calibrated.pt"), strict=True)
    for plain, calm in pairs:
        first, second = (r["predictions"][0] for r in (plain, calm))
        assert first["class"] == second["class"]
        assert first["probability"] > second["probability"]


def test_no_training_goes_on_from_it(run: Path, vtrain: Vtrain) -> None:
    assert vtrain("report", run, "--calibrate", "calibrated.pt").code == 0
    assert Checkpoint.load(Path("calibrated.pt")).state.keys() == {"model", "ema"}
    again = vtrain("report", run, "--calibrate", "calibrated.pt")
    assert again.code == 5
    assert vtrain("report", run, "--calibrate", "calibrated.pt", "--force").code == 0


def test_a_run_keeps_its_own_checkpoints(run: Path, vtrain: Vtrain) -> None:
    (kept,) = [entry.name for entry in manifest.read(run).entries][-1:]
    before = {path.name: path.read_bytes() for path in run.glob("*.pt")}
    for name in ("best.pt", "last.pt", kept):
        done = vtrain("report", run, "--calibrate", run / ".." / "run" / name, "--force")
        assert done.code == 2
        assert "this is a checkpoint of the run itself" in done.err
    assert {path.name: path.read_bytes() for path in run.glob("*.pt")} == before
    assert vtrain("report", run, "--calibrate", run / "calibrated.pt").code == 0


@pytest.mark.parametrize("name", MODELS.names())
def test_the_heads_of_every_model_are_linear(name: str) -> None:
    model = tiny(name).eval()
    for parameter in model.parameters():  # heads begin at zero
        torch.nn.init.normal_(parameter, std=0.1)
    images = torch.randn(2, 3, 32, 32)
    checkpoint = small_checkpoint(state={"model": model.state_dict(), "ema": None})
    geometry = Preprocess(32, mean=(0.5,) * 3, std=(0.5,) * 3)
    loaded = LoadedModel(model, tuple("0123456789"), geometry, checkpoint, Path("x.pt"))
    with torch.no_grad():
        before = model(images)
        model.load_state_dict(divided(loaded, 2.5).weights)
        torch.testing.assert_close(model(images), before / 2.5)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"step": 1}, 4, "not of this checkpoint"),
        ({"split": "train"}, 3, "trained on these images"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    run: Path, vtrain: Vtrain, change: dict[str, object], code: int, says: str
) -> None:
    path = run / "predictions.npz"
    old = Predictions.load(path)
    Predictions(old.logits, old.targets, old.ids, old.classes, {**old.about, **change}).save(path)
    done = vtrain("report", run, "--calibrate", "calibrated.pt")
    assert done.code == code
    assert says in done.err
    assert not Path("calibrated.pt").exists()
    assert vtrain("predict", "x.png", "--ckpt", run, "--conformal", 0.1).code == 3


def test_reject_says_unsure_below_its_probability(run: Path, vtrain: Vtrain) -> None:
    plain = probabilities(vtrain, run)
    assert all("unsure" not in record for record in plain)
    sure = sorted(record["predictions"][0]["probability"] for record in plain)
    judged = probabilities(vtrain, run, "--reject", sure[1])
    assert [record["unsure"] for record in judged] == [
        record["predictions"][0]["probability"] < sure[1] for record in plain
    ]
    table = vtrain("predict", "0.png", "--ckpt", run, "--reject", 1).out
    assert table.endswith("  unsure\n")
    text = vtrain("predict", "0.png", "--ckpt", run, "--reject", 0, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["unsure"] for row in rows] == ["false"]  # a row an image


def test_conformal_names_all_classes_from_its_threshold_on(run: Path, vtrain: Vtrain) -> None:
    predictions = Predictions.load(run / "predictions.npz")
    scores = predictions.scores()
    true = scores.probs[np.arange(400), scores.targets]
    whole = probabilities(vtrain, run, "--top-k", 4)
    for alpha in (0.001, 0.1, 0.7, 0.95):
        threshold = conformal_threshold(true, alpha)
        for record, all_classes in zip(
            probabilities(vtrain, run, "--conformal", alpha), whole, strict=True
        ):
            ranked = all_classes["predictions"]
            expected = [e for e in ranked if e["probability"] >= threshold]
            assert record["predictions"] == expected
            assert record["unsure"] == (len(expected) != 1)


def test_conformal_at_the_ends_of_its_range(run: Path, vtrain: Vtrain) -> None:
    all_of_them = probabilities(vtrain, run, "--conformal", 0)
    assert all(len(record["predictions"]) == 4 and record["unsure"] for record in all_of_them)
    none_promised = probabilities(vtrain, run, "--conformal", 1)
    assert all(len(record["predictions"]) <= 1 for record in none_promised)


@pytest.mark.parametrize("option", ["--reject", "--conformal"])
def test_what_is_no_share_is_refused(run: Path, vtrain: Vtrain, option: str) -> None:
    probabilities(vtrain, run)
    for value in ("nan", "inf", "2", "-0.1", "many"):
        done = vtrain("predict", "0.png", "--ckpt", run, option, value)
        assert done.code == 2
        (line,) = done.err.splitlines()
        assert option in line


def test_options_that_exclude_each_other_are_refused(run: Path, vtrain: Vtrain) -> None:
    for other in (("--top-k", 3), ("--reject", 0.5), ("--reject", 0)):
        done = vtrain("predict", "x.png", "--ckpt", run, "--conformal", 0.1, *other)
        assert done.code == 2
        assert "has no effect with --conformal" in done.err
    done = vtrain("report", run, run, "--calibrate", "x.pt")
    assert done.code == 2
    assert "--calibrate is for one run" in done.err
    assert vtrain("predict", "x.png", "--ckpt", run, "--reject", 1.5).code == 2
