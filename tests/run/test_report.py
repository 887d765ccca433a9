"""`vtrain report`: what it writes of runs that the real commands left."""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.harness import Vtrain
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference.loaded import load_model
from vtrain.report.predictions import Predictions
from vtrain.run.evaluate import prepare
from vtrain.run.run_facts import changes_of, read_run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in the folder where the test stands."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return Path("run")


def changed(source: Path, name: str, *pairs: tuple[str, str]) -> Path:
    """Copy a run under another name, with other text in its config."""
    shutil.copytree(source, name)
    config = Path(name, "config.yaml")
    text = config.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    return Path(name)


def test_fit_keeps_what_its_best_checkpoint_says(run: Path, vtrain: Vtrain) -> None:
    predictions = Predictions.load(run / "predictions.npz")
    metrics = json.loads(vtrain("eval", "--ckpt", run / "best.pt", "--json").out)
    assert predictions.scores().correct.mean() == pytest.approx(metrics["val/top1"])
    assert predictions.scores().loss.mean() == pytest.approx(metrics["val/loss"], rel=1e-5)
    assert predictions.about["split"] == "val"
    assert predictions.about["images"]["images"] == len(predictions.ids)


def test_eval_writes_what_fit_wrote_and_keeps_it_from_other_images(
    run: Path, vtrain: Vtrain
) -> None:
    path = run / "predictions.npz"
    before = path.read_bytes()
    path.unlink()
    assert vtrain("eval", "--ckpt", run).code == 0
    assert path.read_bytes() == before
    for other in (("--split", "train"), ("data.num_images=40",), ("data.limit=5",)):
        done = vtrain("eval", "--ckpt", run, *other)
        assert done.code == 0
        assert "predictions.npz is left as it is" in done.err
        assert path.read_bytes() == before
    path.unlink()
    assert vtrain("eval", "--ckpt", run, "--split", "train").code == 0
    assert not path.exists()
    assert vtrain("eval", "--ckpt", run / "best.pt").code == 0
    assert not path.exists()  # a lone checkpoint is not what the run came to


def test_eval_of_a_folder_that_cannot_be_written_is_no_error(
    run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "predictions.npz").unlink()
    (run / "predictions.npz").mkdir()  # root may write anywhere, but not here
    done = vtrain("eval", "--ckpt", run)
    assert done.code == 0
    assert "the predictions are not kept" in done.err
    assert "val/top1" in done.out


def test_a_report_is_a_page_its_twin_and_a_table(run: Path, vtrain: Vtrain) -> None:
    done = vtrain("report", run)
    assert done.code == 0
    assert "report run/report.html" in done.err
    page = (run / "report.html").read_text()
    twin = json.loads((run / "report.json").read_text())
    rows = list(csv.DictReader(io.StringIO((run / "per_class.csv").read_text())))
    predictions = Predictions.load(run / "predictions.npz")
    top1 = float(predictions.scores().correct.mean())
    assert twin["predictions"]["overall"]["accuracy"] == pytest.approx(top1)
    assert f"{top1:.2%}".replace("%", "\u00a0%") in page
    assert f"{top1:.2%}".replace("%", " %") in done.out
    assert {row["class"] for row in rows} == set(predictions.classes)
    assert "data:image/png;base64," in page  # the images are read from the run's dataset
    assert "It is not known" not in page  # how many images were trained on is in the checkpoint
    assert twin["run"]["status"]["state"] == "finished"
    assert sum(twin["run"]["train_counts"].values()) == 70
    assert "<script" not in page


def test_figures_are_printed_as_json_and_csv(run: Path, vtrain: Vtrain) -> None:
    figures = json.loads(vtrain("report", run, "--format", "json").out)
    assert figures == json.loads((run / "report.json").read_text())["predictions"]
    assert vtrain("report", run, "--format", "csv").out == (run / "per_class.csv").read_text()


def test_the_config_is_shown_where_it_differs_from_the_defaults(run: Path) -> None:
    changes = {change.key: change for change in read_run(run).facts.changes}
    assert changes["model.patch_size"].value == 4
    assert changes["train.ema_decay"].value == 0.9
    assert changes["train.ema_decay"].default is None
    assert "train.grad_clip_norm" not in changes  # it has its default
    assert changes["train.epochs"].value == 2  # it has none


def test_defaults_are_no_changes(run: Path) -> None:
    from vtrain.config import load_config

    config = load_config(run / "config.yaml")
    keys = {change.key for change in changes_of(config.logging)}
    assert keys == {"every_steps", "tensorboard"}


def test_the_page_goes_where_output_says_and_replaces_nothing(run: Path, vtrain: Vtrain) -> None:
    assert vtrain("report", run, "--output", "page.html").code == 0
    assert Path("page.json").exists()
    assert not (run / "report.html").exists()
    for name in ("page.html", "page.json", "page_per_class.csv"):
        again = vtrain("report", run, "--output", "page.html")
        assert again.code == 5
        assert f"there already ({name})" in again.err
        Path(name).unlink()
    assert vtrain("report", run, "--output", "page.html").code == 0
    assert "in page.json and page_per_class.csv beside" in Path("page.html").read_text()
    assert vtrain("report", run, "--output", "page.html", "--force").code == 0
    assert vtrain("report", run, "--force").code == 2


@pytest.mark.parametrize("several", [False, True])
def test_what_cannot_be_a_page_is_refused_before_the_work(
    run: Path, vtrain: Vtrain, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run, changed(run, "other", ("seed: 0", "seed: 1"))] if several else [run]

    def no_work(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("vtrain.run.report.analyse", no_work)
    monkeypatch.setattr("vtrain.run.report.compare_runs", no_work)
    Path("file").write_text("")
    for name, code, says in (
        ("page.json", 2, "a page's name ends in .html (page.json): name it page.html"),
        ("page", 2, "a page's name ends in .html (page)"),
        (".", 5, "this folder is there already"),
        ("absent/page.html", 5, "the folder does not exist or has vanished (absent)"),
        ("file/page.html", 5, "a parent of this path is a file (file)"),
    ):
        done = vtrain("report", *runs, "--output", name)
        assert done.code == code
        (line,) = done.err.splitlines()
        assert says in line


def test_a_run_folder_that_cannot_be_written_names_the_way_out(
    run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file = os.open

    def read_only(path: object, flags: int, *rest: object, **others: object) -> int:
        if flags & os.O_CREAT and Path(str(path)).parent == run:
            raise OSError(errno.EROFS, "Read-only file system")
        return open_file(path, flags, *rest, **others)

    monkeypatch.setattr("os.open", read_only)
    done = vtrain("report", run)
    assert done.code == 5
    assert "the file system is read-only (run): --output PAGE.html writes it elsewhere" in done.err
    assert vtrain("report", run, "--output", "page.html").code == 0


def test_a_run_without_predictions_says_what_cannot_be_told(run: Path, vtrain: Vtrain) -> None:
    (run / "predictions.npz").unlink()
    done = vtrain("report", run)
    assert (done.code, done.out) == (0, "")
    page = (run / "report.html").read_text()
    assert "There are no predictions" in page
    assert "vtrain eval --ckpt run" in page
    assert json.loads((run / "report.json").read_text())["predictions"] is None


def test_a_half_finished_run_has_a_report(run: Path, vtrain: Vtrain) -> None:
    for name in ("summary.json", "predictions.npz", "best.pt", "last.pt", "metrics.jsonl"):
        (run / name).unlink()
    (run / "status.json").write_text('{"state": "stopped", "reason": "by a test"}')
    done = vtrain("report", run)
    assert done.code == 0
    page = (run / "report.html").read_text()
    assert "by a test" in page
    assert "has logged nothing" in page


@pytest.mark.parametrize(
    ("prepare", "code", "says"),
    [
        (shutil.rmtree, 4, "this is no run folder (run)"),
        (lambda run: (run / "config.yaml").unlink(), 4, "there is no run in this folder (run)"),
        (lambda run: (run / "config.yaml").write_text("x: ["), 2, "config.yaml"),
        (lambda run: (run / "predictions.npz").write_bytes(b"PK"), 4, "predictions.npz"),
    ],
)
def test_what_is_no_run_is_one_line(
    run: Path, vtrain: Vtrain, prepare: Callable[[Path], object], code: int, says: str
) -> None:
    prepare(run)
    done = vtrain("report", run)
    assert done.code == code
    (line,) = done.err.splitlines()
    assert line.startswith("vtrain: error: ")
    assert says in line


def test_predictions_of_other_images_or_of_another_step_are_noted(
    run: Path, vtrain: Vtrain
) -> None:
    path = run / "predictions.npz"
    old = Predictions.load(path)
    others = {**old.about, "images": {}}  # images were added since, or taken away
    Predictions(old.logits, old.targets, old.ids, old.classes, others).save(path)
    assert vtrain("report", run).code == 0
    assert "of other images than the run was begun with" in (run / "report.html").read_text()
    Predictions(old.logits, old.targets, old.ids, old.classes, {**old.about, "step": 1}).save(path)
    assert vtrain("report", run).code == 0
    assert "The predictions are of step 1" in (run / "report.html").read_text()


def test_a_checkpoint_that_no_training_goes_on_from_has_a_report(run: Path, vtrain: Vtrain) -> None:
    (run / "checkpoints.json").unlink()  # a copy of a run, with another file for its checkpoint
    best = Checkpoint.load(run / "best.pt")
    best.with_weights(best.weights).save(run / "best.pt")
    assert vtrain("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "The predictions are of step 6, the checkpoint is of no step." in page
    assert "the predictions are not of the checkpoint, which is of no step" in page


@pytest.mark.parametrize("status", ["{}", '{"reason": "unknown"}', '{"state": ["a"]}', "[", ""])
def test_a_status_that_says_nothing_is_no_error(run: Path, vtrain: Vtrain, status: str) -> None:
    (run / "status.json").write_text(status)
    assert vtrain("report", run).code == 0
    assert vtrain("report", run, changed(run, "other")).code == 0


def test_images_that_have_changed_since_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs()
    assert vtrain("fit", "photos.yaml", "--run-dir", "run").code == 0
    told = "The images have changed since these predictions were made"
    assert vtrain("report", "run").code == 0
    page = Path("run/report.html").read_text()
    assert told not in page
    assert "Width and height in pixels: 20 x 20, the same of 12 images" in page
    assert "the model sees 16 x 16" in page
    Image.new("RGB", (50, 30)).save("photos/val/dog/0.png")
    assert vtrain("report", "run").code == 0
    page = Path("run/report.html").read_text()
    assert told in page
    assert "from 20 x 20 to 50 x 30, the middle one 20 x 20" in page
    assert vtrain("eval", "--ckpt", "run").code == 0
    assert vtrain("report", "run").code == 0
    assert told not in Path("run/report.html").read_text()


def photographs() -> None:
    """Write a folder of photographs and a config that trains on it."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for name in ("<b>cat</b>", "dog"):
            folder = Path("photos", split, name.replace("/", "\u2215"))
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    data = "data: {name: image_folder, root: photos, image_size: 16}"
    lines = [data if line.startswith("data:") else line for line in SMALL_RUN.splitlines()]
    Path("photos.yaml").write_text("\n".join(lines))


def test_images_that_are_gone_are_named_without_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs()
    assert vtrain("fit", "photos.yaml", "--run-dir", "run").code == 0
    assert vtrain("report", "run").code == 0
    page = Path("run/report.html").read_text()
    assert page.count("data:image/png;base64,") > 5
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat" in page
    shutil.rmtree("photos")
    assert vtrain("report", "run").code == 0
    page = Path("run/report.html").read_text()
    assert "data:image/png;base64," not in page
    assert "only their names are shown" in page
    assert "photos/val/dog/" in page


def test_runs_are_compared_on_the_same_images(run: Path, vtrain: Vtrain) -> None:
    other = changed(run, "other", ("seed: 0", "seed: 1"))
    path = other / "predictions.npz"
    old = Predictions.load(path)
    logits = np.random.default_rng(0).permutation(old.logits)
    Predictions(logits, old.targets, old.ids, old.classes, old.about).save(path)
    done = vtrain("report", run, other, "--against", run, "--output", "both.html")
    assert done.code == 0
    assert "against" in done.out
    assert "2 runs: best top-1" in done.out
    page = Path("both.html").read_text()
    assert "McNemar" in page
    compared = json.loads(vtrain("report", other, "--against", run, "--format", "json").out)
    shown = [*compared["against"][0]["lost"], *compared["against"][0]["won"]]
    assert shown
    assert all(one["image"] in page for one in shown)
    assert page.count('class="pair"><img src="data:image/png;base64,') == len(shown)
    content = json.loads(vtrain("report", other, "--against", run, "--format", "json").out)
    (against,) = content["against"]
    right = old.scores().correct
    now = Predictions.load(path).scores().correct
    assert against["paired"]["only_a"] == (right & ~now).sum()
    assert against["paired"]["only_b"] == (now & ~right).sum()
    assert content["keys"] == ["seed"]
    rows = list(csv.reader(io.StringIO(vtrain("report", run, other, "--format", "csv").out)))
    assert [row[2] for row in rows] == ["seed", "0", "1"]


def test_a_run_is_not_compared_with_itself(run: Path, vtrain: Vtrain) -> None:
    done = vtrain("report", run, "--against", run)
    assert (done.code, done.out) == (2, "")
    assert "name another run" in done.err


def test_a_run_is_the_same_by_whatever_path(run: Path, vtrain: Vtrain) -> None:
    Path("link").symlink_to("run")
    other = changed(run, "other", ("seed: 0", "seed: 1"))
    for again in ("link", run.resolve(), Path("other", "..", "run")):
        done = vtrain("report", run, again)
        assert done.code == 2
        assert f"run is named twice, also as {again}" in done.err
        assert vtrain("report", run, "--against", again).code == 2
        content = json.loads(
            vtrain("report", run, other, "--against", again, "--format", "json").out
        )
        assert len(content["lines"]) == 2


def test_runs_whose_folders_have_the_same_name_are_told_apart(run: Path, vtrain: Vtrain) -> None:
    for name in ("a", "b"):
        Path(name, "x").mkdir(parents=True)
    changed(run, "a/x/first", ("seed: 0", "seed: 1"))
    changed(run, "b/x/first", ("seed: 0", "seed: 2"))
    done = vtrain("report", run, "a/x/first", "b/x/first", "--format", "json")
    names = [line["name"] for line in json.loads(done.out)["lines"]]
    assert names[1:] == ["a/x/first", "b/x/first"]
    assert json.loads(done.out)["groups"][0]["runs"] == names


def test_runs_of_other_classes_or_of_another_order_are_compared_by_name(
    run: Path, vtrain: Vtrain
) -> None:
    turned, fewer = (changed(run, name) for name in ("turned", "fewer"))
    old = Predictions.load(run / "predictions.npz")
    order = [2, 0, 3, 1]
    columns, classes = old.logits[:, order], tuple(old.classes[k] for k in order)
    targets = np.argsort(order)[old.targets]
    Predictions(columns, targets, old.ids, classes, old.about).save(turned / "predictions.npz")
    others = ("w", "x", "y", "z")
    Predictions(old.logits, old.targets, old.ids, others, old.about).save(fewer / "predictions.npz")
    out = vtrain("report", run, turned, fewer, "--against", run, "--format", "json").out
    same, other = json.loads(out)["against"]
    assert same["paired"]["only_a"] == same["paired"]["only_b"] == 0
    assert other["reason"] == "the two runs do not have the same classes"


def test_thirty_runs_have_a_table_and_a_page(run: Path, vtrain: Vtrain) -> None:
    runs = [changed(run, f"run_{n}", ("seed: 0", f"seed: {n}")) for n in range(1, 30)]
    done = vtrain("report", run, *runs, "--against", run, "--output", "all.html")
    assert done.code == 0
    assert "30 runs: best top-1" in done.out
    page = Path("all.html").read_text()
    assert "Only the first 8 runs are drawn" in page
    assert all(f"/run_{n}<" in page for n in range(1, 30))
    assert len(json.loads(Path("all.json").read_text())["lines"]) == 30


def test_folds_are_joined_to_one_report(small_run: Path, vtrain: Vtrain) -> None:
    for index in range(3):
        fold = f"data.fold={{of: 3, index: {index}}}"
        assert vtrain("fit", small_run, fold, "--run-dir", f"fold_{index}").code == 0
    done = vtrain("report", "fold_0", "fold_1", "fold_2", "--output", "folds.html")
    assert done.code == 0
    assert "3 runs: best top-1" in done.out
    content = json.loads(Path("folds.json").read_text())
    parts = [Predictions.load(Path(f"fold_{n}/predictions.npz")) for n in range(3)]
    correct = np.concatenate([part.scores().correct for part in parts])
    assert content["predictions"]["overall"]["images"] == len(correct)
    assert content["predictions"]["overall"]["accuracy"] == pytest.approx(correct.mean())
    assert content["folds"]["groups"][0]["runs"] == [
        line["name"] for line in content["folds"]["lines"]
    ]
    page = Path("folds.html").read_text()
    assert "3 folds of" in page
    assert "the model that was not trained on it" in page
    assert "not of all images" not in page
    assert "It is not known" not in page, "how many images of each class were trained on"
    compared = vtrain("report", "fold_0", "fold_1", "--against", "fold_0", "--output", "two.html")
    assert compared.code == 0
    assert "the predictions are not of the same images" in Path("two.html").read_text()
    Path("fold_2/predictions.npz").unlink()
    partly = vtrain("report", "fold_0", "fold_1", "fold_2", "--output", "partly.html")
    assert partly.code == 0
    assert "the folds are not joined: of 1 fold there are no predictions" in partly.err
    assert "of 1 fold" not in Path("partly.html").read_text()
    assert vtrain("report", "fold_0", "fold_1", "--output", "few.html").code == 0
    assert "not of all images: 1 fold of 3 missing here, number 2" in Path("few.html").read_text()


@pytest.mark.parametrize("held_out", ["data.val_fraction=0.3", "data.fold={of: 3, index: 1}"])
def test_a_picture_is_of_the_image_that_was_judged(
    small_run: Path, vtrain: Vtrain, held_out: str
) -> None:
    from vtrain.run.run_facts import image_reader, images_changed

    assert vtrain("fit", small_run, held_out, "--run-dir", "run").code == 0
    run = read_run(Path("run"))
    assert run.predictions is not None
    assert not images_changed(run)
    read = image_reader(run.facts, run.predictions)
    assert read is not None
    subject = prepare(load_model(Path("run")), (), "val")
    assert len(subject.samples) == len(run.predictions.ids)
    for index in range(len(subject.samples)):
        judged = subject.samples.image(index)
        np.testing.assert_array_equal(np.asarray(read(index)), np.asarray(judged))


def test_cost_and_corruptions_are_measured_where_asked_for(
    run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtrain.run.measure.SECONDS", 0.05)
    assert vtrain("report", run).code == 0
    assert json.loads((run / "report.json").read_text())["measured"]["speeds"] == []
    assert vtrain("report", run, "--cost", "--corruptions").code == 0
    content = json.loads((run / "report.json").read_text())
    measured, overall = content["measured"], content["predictions"]["overall"]
    assert [one["batch_size"] for one in measured["speeds"]] == [1, 32]
    assert all(one["images_per_second"] > 0 for one in measured["speeds"])
    assert measured["corruptions"]["clean"] == pytest.approx(overall["accuracy"])
    assert measured["corruptions"]["images"] == overall["images"]
    page = (run / "report.html").read_text()
    assert "It is not ImageNet-C" in page
    assert "median of windows" in page
    refused = vtrain("report", run, run, "--cost")
    assert refused.code == 2
    assert "--cost is for one run" in refused.err


def test_the_galleries_show_what_the_model_looked_at(
    run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def maps() -> int:
        assert vtrain("report", run).code == 0
        return (run / "report.html").read_text().count('alt="what the model looked at"')

    assert maps() > 10
    page = (run / "report.html").read_text()
    assert maps() == page.count('<div class="pair">'), "each image that is shown has one"
    assert (run / "report.html").read_text() == page, "the same ones again"
    assert "by rollout" in page
    macs = vtrain_macs(run)
    monkeypatch.setattr("vtrain.run.gallery_maps.MOST_GMACS", 3.5 * macs / 1e9)
    images = {m.split('"')[0] for m in page.split('class="pair"><img src="')[1:]}
    assert len(images) > 3
    assert 3 <= maps() <= 6, "of a large model three images, which may be in two galleries"
    assert "Beside the first images" in (run / "report.html").read_text()


def vtrain_macs(run: Path) -> int:
    from vtrain.models.profile import count_macs

    return count_macs(load_model(run).model)


def test_a_map_is_that_of_explain(run: Path) -> None:
    from vtrain.explain.methods import METHODS, Request
    from vtrain.explain.small import overlaid
    from vtrain.report.thumbnails import thumbnail
    from vtrain.run.gallery_maps import gallery_maps
    from vtrain.run.run_facts import image_reader

    read_back = read_run(run)
    predictions = read_back.predictions
    assert predictions is not None
    read = image_reader(read_back.facts, predictions)
    assert read is not None
    found = gallery_maps(run, predictions, [4, 2, 4], read)
    loaded = load_model(run)
    assert list(found.pictures) == [4, 2]
    for index, uri in found.pictures.items():
        image = read(index)
        pixels = loaded.preprocess(image)
        request = Request(torch.zeros(1, 1, dtype=torch.int64))
        alone = METHODS["rollout"].function(loaded.model, pixels, request)[0].values[0]
        box = loaded.geometry.seen_box(image.size)
        assert uri == thumbnail(overlaid(image, box, alone.numpy(), 160))


def test_why_there_is_no_map_is_told(run: Path, vtrain: Vtrain) -> None:
    path = run / "predictions.npz"
    old = Predictions.load(path)
    Predictions(old.logits, old.targets, old.ids, old.classes, {**old.about, "step": 1}).save(path)
    assert vtrain("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "is not shown: the predictions are not of the checkpoint, which is of step 6" in page
    for name in ("best.pt", "last.pt"):
        (run / name).unlink()
    assert vtrain("report", run).code == 0
    assert "is not shown: the checkpoint cannot be used" in (run / "report.html").read_text()
