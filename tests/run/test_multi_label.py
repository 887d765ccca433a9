"""A run on several labels an image, from the list to the prediction."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import Vtrain, interrupt
from tests.run.labelled_images import CLASSES, config_of
from tests.run.test_processes import fit as fit_in_processes
from vtrain.config import load_config
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.inference import multi_label
from vtrain.inference.loaded import load_model
from vtrain.report.predictions import Predictions
from vtrain.run.build.data import build_source
from vtrain.run.fit import fit
from vtrain.run.request import Request


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests change copies of it."""
    folder = tmp_path_factory.mktemp("squares")
    return fit(Request(load_config(config_of(folder)), "squares", folder / "run"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def answers(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of the validation images, by nothing but the model."""
    loaded = load_model(run)
    samples = build_source(load_config(run / "config.yaml")).split("val")
    pixels = torch.stack([loaded.geometry(samples.image(i)) for i in range(len(samples))])
    with torch.no_grad():
        return loaded.model(loaded.geometry.normalise(pixels)), samples.targets


def test_squares_are_learnt_and_the_best_by_mean_average_precision_is_kept(run: Path) -> None:
    folder = RunFolder(run)
    rows = [row for row in folder.read_metrics() if "val/map" in row]
    assert len(rows) == 20
    best = max(row["val/map"] for row in rows)
    assert best > 0.9
    assert folder.read_summary()["best"] == {"val/map": best}
    assert Checkpoint.load(run / "best.pt").metrics["val/map"] == best


def test_thresholds_of_the_best_checkpoint_are_fitted_to_its_own_answers(run: Path) -> None:
    logits, targets = answers(run)
    fitted = multi_label.fitted_thresholds(logits.double().sigmoid(), targets >= 0.5)
    assert Checkpoint.load(run / "best.pt").thresholds == pytest.approx(fitted.tolist(), abs=1e-5)


def test_predictions_keep_labels_and_thresholds(run: Path) -> None:
    logits, targets = answers(run)
    kept = Predictions.load(run / "predictions.npz")
    assert kept.classes == CLASSES
    assert np.array_equal(kept.targets, targets.numpy())
    np.testing.assert_allclose(kept.logits, logits.numpy(), rtol=1e-4, atol=1e-5)
    assert kept.thresholds == Checkpoint.load(run / "best.pt").thresholds


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    config = run.parent / "squares.yaml"
    part = tmp_path / "run"
    fit(Request(load_config(config, ["train.max_steps=10"]), "squares", part))
    interrupt(part)
    fit(Request(load_config(config), "squares", part, resume=True))
    whole, resumed = (Checkpoint.load(folder / "last.pt") for folder in (run, part))
    assert resumed.thresholds == whole.thresholds
    assert resumed.metrics == whole.metrics
    for name, tensor in whole.weights.items():
        assert torch.equal(tensor, resumed.weights[name])


def test_a_checkpoint_within_an_epoch_has_the_thresholds_of_the_last_evaluation(
    run: Path, tmp_path: Path
) -> None:
    changes = ["train.epochs=2", "checkpoint.every_steps=1"]
    config = load_config(run.parent / "squares.yaml", changes)
    seen: list[tuple[int, tuple[float, ...]]] = []
    original = Checkpoint.save

    def save(checkpoint: Checkpoint, path: Path) -> object:
        seen.append((checkpoint.step, checkpoint.thresholds))
        return original(checkpoint, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save)
        fit(Request(config, "squares", tmp_path / "run"))
    before, after = dict(seen)[1], dict(seen)[5]
    assert before == (0.5,) * 3
    assert after == dict(seen)[4] != before


@pytest.mark.dist
def test_two_processes_judge_all_images_together(tmp_path: Path) -> None:
    config_of(tmp_path).rename(tmp_path / "config.yaml")
    fit_in_processes(tmp_path, "one", "train.epochs=2")
    fit_in_processes(tmp_path, "two", "train.epochs=2", processes=2)
    one, two = (Checkpoint.load(tmp_path / run / "last.pt") for run in ("one", "two"))
    # Their weights differ by rounding: a pair of images may be ranked the other way round.
    assert two.metrics == pytest.approx(one.metrics, abs=0.02)
    assert two.metrics["val/loss"] == pytest.approx(one.metrics["val/loss"], rel=1e-4)
    assert two.thresholds == pytest.approx(one.thresholds, abs=0.02)


def test_eval_repeats_the_run_and_names_every_class(copy: Path, vtrain: Vtrain) -> None:
    metrics = Checkpoint.load(copy / "best.pt").metrics
    result = vtrain("eval", "--ckpt", copy)
    lines = result.out.splitlines()
    for name in ("val/map", "val/map_micro", "val/f1", "val/f1_micro", "val/exact_match"):
        assert f"{name:12} {metrics[name]:.6f}" in lines
    table = {line.split()[0]: line.split() for line in lines if line.split()}
    assert table["class"] == [
        *("class", "images", "named", "AP", "F1", "precision", "recall", "threshold")
    ]
    assert table.keys() >= set(CLASSES)
    data = json.loads(vtrain("eval", "--ckpt", copy, "--json").out)
    assert data["val/map"] == metrics["val/map"]
    assert {row["class"] for row in data["per_class"]} == set(CLASSES)
    assert np.mean([row["average_precision"] for row in data["per_class"]]) == pytest.approx(
        metrics["val/map"]
    )


def test_another_list_is_evaluated_by_the_names_of_its_classes(
    copy: Path, run: Path, tmp_path: Path, vtrain: Vtrain
) -> None:
    # The same images with a column for each class, in another order; one class is not there.
    source = build_source(load_config(copy / "config.yaml"))
    val = source.split("val")
    rows = [
        f"{val.name(i)},{int(val.targets[i, 2])},{int(val.targets[i, 0])}" for i in range(len(val))
    ]
    file = tmp_path / "other.csv"
    file.write_text("\n".join(["path,red,blue", *rows]) + "\n")
    keys = ["data.label_separator=null", "data.label_columns=all", f"data.file={file}"]
    data = json.loads(vtrain("eval", "--ckpt", copy, *keys, "--json").out)
    by_name = {row["class"]: row for row in data["per_class"]}
    own = json.loads(vtrain("eval", "--ckpt", copy, "--json").out)
    for row in own["per_class"]:
        if row["class"] in ("red", "blue"):
            assert by_name[row["class"]] == row
    assert by_name["green"]["support"] == 0
    file.write_text("path,red,pink\n" + rows[0] + "\n" + rows[1] + "\n" + rows[2] + "\n")
    result = vtrain("eval", "--ckpt", copy, *keys)
    assert (result.code, len(result.errors)) == (3, 1)
    assert "does not know class 'pink'" in result.errors[0]


def test_predict_names_the_labels_that_reach_their_thresholds(run: Path, vtrain: Vtrain) -> None:
    logits, _ = answers(run)
    thresholds = Checkpoint.load(run / "best.pt").thresholds
    images = [run.parent / f"{number}.png" for number in range(120, 132)]
    data = json.loads(vtrain("predict", *images, "--ckpt", run, "--format", "json").out)
    for record, row in zip(data, logits[:12].double().sigmoid().tolist(), strict=True):
        expected = {CLASSES[k]: p for k, p in enumerate(row) if p >= thresholds[k]}
        found = {one["class"]: one["probability"] for one in record["predictions"]}
        assert found == pytest.approx(expected, abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    assert len({len(record["predictions"]) for record in data}) > 1


def test_a_threshold_of_the_command_line_wins_and_may_name_nothing(
    run: Path, vtrain: Vtrain
) -> None:
    image = run.parent / "120.png"
    every = vtrain("predict", image, "--ckpt", run, "--threshold", "0").out
    assert [line.split()[-1] for line in every.splitlines()[1:]] != []
    assert len(every.splitlines()) == 4
    assert vtrain("predict", image, "--ckpt", run, "--threshold", "1").out.splitlines()[1:] == [
        "  no label"
    ]
    one = vtrain("predict", image, "--ckpt", run, "--threshold", "0", "--top-k", "1").out
    assert one.splitlines() == every.splitlines()[:2]


def test_a_spreadsheet_has_one_row_an_image(run: Path, tmp_path: Path, vtrain: Vtrain) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    images = [bad, *(run.parent / f"{number}.png" for number in range(120, 128))]
    result = vtrain("predict", *images, "--ckpt", run, "--format", "csv")
    assert result.code == 3
    rows = list(csv.DictReader(result.out.splitlines()))
    assert list(rows[0]) == ["image", "classes", "probabilities", "error"]
    assert rows[0]["error"]
    assert len(rows) == 9
    data = json.loads(vtrain("predict", *images[1:], "--ckpt", run, "--format", "json").out)
    for row, record in zip(rows[1:], data, strict=True):
        assert [name for name in row["classes"].split("; ") if name] == [
            one["class"] for one in record["predictions"]
        ]
        assert row["probabilities"].count(";") == row["classes"].count(";")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reject", "0.5"], "--reject is for models of one class an image"),
        (["--conformal", "0.1"], "--conformal is for models of one class an image"),
    ],
)
def test_predict_refuses_what_several_labels_give_no_meaning(
    run: Path, vtrain: Vtrain, arguments: list[str], message: str
) -> None:
    result = vtrain("predict", run.parent / "120.png", "--ckpt", run, *arguments)
    assert (result.code, len(result.errors)) == (2, 1)
    assert message in result.errors[0]


def test_a_model_of_one_class_has_no_threshold(trained: Path, run: Path, vtrain: Vtrain) -> None:
    image = run.parent / "120.png"
    result = vtrain("predict", image, "--ckpt", trained, "--threshold", "0.5")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "--threshold is for models of several labels" in result.errors[0]


def test_images_of_the_other_kind_of_labels_are_refused(
    trained: Path, copy: Path, tmp_path: Path, vtrain: Vtrain
) -> None:
    several = ["data.name=csv", f"data.file={load_config(copy / 'config.yaml').data.file}"]  # type: ignore[attr-defined]
    keys = [*several, "data.label_separator=;", "data.allow_empty=true"]
    result = vtrain("eval", "--ckpt", trained, *keys)
    assert (result.code, len(result.errors)) == (3, 1)
    assert "the images have several labels each, and the model names one class" in result.errors[0]
    result = vtrain("eval", "--ckpt", copy, "data.name=digits")
    assert (result.code, len(result.errors)) == (3, 1)
    assert "the images have one class each, and the model names several" in result.errors[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.loss=cross_entropy"], "take asymmetric or binary_cross_entropy"),
        (["train.loss=focal"], "focal is a loss of one class an image"),
        (["data.balanced=true"], "balanced is for images of one class each"),
        (["checkpoint.best_metric=val/top1"], "there is no val/top1 of images of several labels"),
        (
            ["train.early_stopping={metric: val/top5, mode: max, patience: 2}"],
            "there is no val/top5 of images of several labels",
        ),
        (
            ["train.distillation={teacher: RUN}"],
            "train.distillation is for images of one class each",
        ),
        (["data.allow_empty=false"], "a line without a label"),
        (["data.label_columns=all"], "label_separator and label_columns exclude each other"),
    ],
)
def test_what_has_no_meaning_for_several_labels_is_refused_in_one_line(
    run: Path, tmp_path: Path, vtrain: Vtrain, changes: list[str], message: str
) -> None:
    changes = [change.replace("RUN", str(run)) for change in changes]
    result = vtrain("fit", run.parent / "squares.yaml", *changes, "--run-dir", tmp_path / "new")
    assert result.code in (2, 3)
    assert len(result.errors) == 1
    assert message in result.errors[0]


def test_shares_as_labels_need_a_loss_that_keeps_them(
    run: Path, tmp_path: Path, vtrain: Vtrain
) -> None:
    file = tmp_path / "soft.csv"
    images = [run.parent / f"{number}.png" for number in range(8)]
    rows = [f"{image},0.{number},1,{'val' if number > 5 else 'train'}" for number, image in
            enumerate(images, 1)]  # fmt: skip
    file.write_text("\n".join(["path,a,b,split", *rows]) + "\n")
    keys = ["data.label_separator=null", "data.label_columns=all", f"data.file={file}"]
    config = run.parent / "squares.yaml"
    result = vtrain("fit", config, *keys, "--run-dir", tmp_path / "new")
    assert (result.code, len(result.errors)) == (2, 1)
    assert "some labels are shares between 0 and 1" in result.errors[0]
    kept = "train.loss.binarize=false"
    assert vtrain("fit", config, *keys, kept, "--run-dir", tmp_path / "new").code == 0


def test_every_loss_and_mixing_trains(run: Path, tmp_path: Path, vtrain: Vtrain) -> None:
    for number, loss in enumerate(
        ("asymmetric", "{name: binary_cross_entropy, pos_weight: balanced, binarize: false}")
    ):
        mixing = ["augment.mixup=0.5", "augment.cutmix=0.5"]
        changes = [f"train.loss={loss}", *mixing, "train.epochs=2"]
        folder = tmp_path / str(number)
        result = vtrain("fit", run.parent / "squares.yaml", *changes, "--run-dir", folder)
        assert result.code == 0, result.err


def test_images_are_memorised_as_a_whole(run: Path, vtrain: Vtrain) -> None:
    result = vtrain("fit", run.parent / "squares.yaml", "--overfit", "8")
    assert result.code == 0, result.err


def test_the_list_is_looked_at_before_training(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain
) -> None:
    monkeypatch.chdir(tmp_path)
    result = vtrain("check", run.parent / "squares.yaml", "--data", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    targets = build_source(load_config(run / "config.yaml")).split("train").targets
    assert list(report["splits"]["train"]["per_class"].values()) == targets.sum(0).tolist()
    assert vtrain("check", run.parent / "squares.yaml").code == 0
