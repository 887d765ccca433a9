"""Which images `vtrain eval` evaluates, and what it says of them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant, plant_photographs
from tests.harness import Result, Vtrain
from vtrain.config import stored_config
from vtrain.data.inspect.fingerprint import fingerprint
from vtrain.errors import DataError
from vtrain.files.checkpoint import Checkpoint
from vtrain.run.build.data import build_source
from vtrain.run.evaluated import split_name
from vtrain.run.renumbering import renumbered


def said(done: Result) -> str:
    """The line that says which images were evaluated."""
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("images  ")]
    return line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a folder of classes and of one with splits, made once."""
    from vtrain.config import load_config
    from vtrain.run.fit import fit
    from vtrain.run.request import Request

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plant_photographs({s: {"cat": 20, "dog": 20} for s in ("train", "val", "test")})
        shutil.copytree("photos/train", "flat")
        Path("c.yaml").write_text(over_photographs(SMALL_RUN))
        fit(Request(load_config(Path("c.yaml"), ["train.epochs=1"]), "c", Path("run")))
        held_out = ["train.epochs=1", "data.root=flat", "data.val_fraction=0.25"]
        fit(Request(load_config(Path("c.yaml"), held_out), "c", Path("held")))
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, whose runs know their images where they first were."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return trained


@pytest.mark.usefixtures("here")
def test_a_part_of_what_was_held_out_was_not_trained_on(vtrain: Vtrain) -> None:
    for part in ("data.limit=4", "data.fraction=0.5"):
        done = vtrain("eval", "--ckpt", "held", part)
        assert "held out of training by val_fraction 0.25" in said(done)
        assert "was trained on" not in done.err


@pytest.mark.usefixtures("here")
def test_splits_without_training_images_need_not_have_the_same_classes(vtrain: Vtrain) -> None:
    shutil.copytree("photos/val/cat", "new/val/cat")
    shutil.copytree("photos/test/dog", "new/test/dog")
    for split in ("val", "test"):
        line = said(vtrain("eval", "--ckpt", "run", "data.root=new", "--split", split))
        assert line.endswith(f"split {split}, in 1 of 2 classes")


def test_a_run_is_evaluated_on_its_own_images_of_any_split(here: Path, vtrain: Vtrain) -> None:
    for split, words in (("val", "split val"), ("test", "split test"), ("train", "split train")):
        line = said(vtrain("eval", "--ckpt", "run", "--split", split))
        assert line == f"images  40 images of {here}/photos, {words}, in 2 of 2 classes"
    assert "trained on these" in vtrain("eval", "--ckpt", "run", "--split", "train").err
    assert "split val" in said(vtrain("eval", "--ckpt", "run"))


def test_all_of_another_folder_is_evaluated_and_not_the_part_that_training_held_out(
    here: Path, vtrain: Vtrain
) -> None:
    plant(Path("new"), *(f"{c}/{n}.png" for c in ("cat", "dog") for n in range(15)))
    all_of_it = vtrain("eval", "--ckpt", "held", "data.root=new", "--json")
    assert "images  30 images of" in said(all_of_it)
    assert "all that there are" in all_of_it.err
    same = vtrain("eval", "--ckpt", "held", "data.root=new", "--split", "train", "--json")
    assert json.loads(same.out) == json.loads(all_of_it.out)
    shutil.move("new", "splits/test")
    assert "30 images of" in (line := said(vtrain("eval", "--ckpt", "held", "data.root=splits")))
    assert "split test" in line
    part = said(vtrain("eval", "--ckpt", "run", "data.root=splits", "data.limit=7"))
    assert "7 of 30 images of" in part  # which was asked for


def test_predictions_of_a_run_are_of_its_own_validation_images_whatever_is_evaluated(
    here: Path, vtrain: Vtrain
) -> None:
    plant(Path("new"), *(f"{c}/{n}.png" for c in ("cat", "dog") for n in range(15)))
    Path("list.csv").write_text("path,label\nnew/cat/1.png,cat\n")
    before = Path("held/predictions.npz").read_bytes()
    for other in (
        ("data.root=new",),
        ("data.root=flat", "data.val_fraction=0.5"),
        ("data.name=csv", "data.file=list.csv"),
        ("--split", "train"),
        ("--split", "test", f"data.root={here}/photos"),
    ):
        done = vtrain("eval", "--ckpt", "held", *other)
        assert done.code == 0, done.err
        assert "predictions.npz is left as it is" in done.err
        assert Path("held/predictions.npz").read_bytes() == before
    # How the run's own images are read does not make them others.
    assert vtrain("eval", "--ckpt", "held", "data.num_workers=0").code == 0
    assert Path("held/predictions.npz").read_bytes() == before


def test_one_class_and_empty_folders_can_be_evaluated(here: Path, vtrain: Vtrain) -> None:
    plant(Path("new"), "cat/1.png", "cat/2.png", "cat/notes.xyz")
    Path("new/bird").mkdir()
    done = vtrain("eval", "--ckpt", "run", "data.root=new", "--split", "train")
    assert "in 1 of 2 classes" in said(done)
    assert re.search(r"^note    .*no images of 1 class.*bird", done.err, flags=re.M)
    assert re.search(r"^note    .*\.xyz", done.err, flags=re.M)


def test_the_same_images_elsewhere_keep_the_split_of_the_run(here: Path, vtrain: Vtrain) -> None:
    own = vtrain("eval", "--ckpt", "held")
    assert "held out of training by val_fraction 0.25" in said(own)
    shutil.move("flat", "moved")
    moved = vtrain("eval", "--ckpt", "held", "data.root=moved")
    assert "held out of training by val_fraction 0.25" in said(moved)
    assert moved.out == own.out


def test_new_images_move_none_of_the_held_out_ones(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain
) -> None:
    monkeypatch.chdir(trained)
    before = said(vtrain("eval", "--ckpt", "held"))
    # As a run of an older version chose its images, by position.
    checkpoint = Checkpoint.load(Path("held/best.pt"))
    del checkpoint.dataset["kept"]
    config = stored_config(checkpoint, Path("held/best.pt"))
    by_position = build_source(config, checkpoint.dataset)
    assert by_position.by_position
    checkpoint.dataset["val"] = fingerprint(by_position.split("val"))
    checkpoint.save(tmp_path / "older.pt")
    new = [f"{c}/0 new {n}.png" for c in ("cat", "dog") for n in range(20)]
    try:
        plant(Path("flat"), *new)
        done = vtrain("eval", "--ckpt", "held")
        assert said(done) != before
        assert "these images have changed since the run began: " in done.err
        assert "held out by name, so that none of them was trained on" in done.err
        older = vtrain("eval", "--ckpt", tmp_path / "older.pt")
        assert "its split cannot be kept" in older.err
    finally:
        for name in new:
            Path("flat", name).unlink()
    assert "cannot be kept" not in vtrain("eval", "--ckpt", tmp_path / "older.pt").err


def test_another_kind_of_dataset_leaves_the_keys_of_the_first_behind(
    here: Path, vtrain: Vtrain
) -> None:
    Path("list.csv").write_text("path,label\nflat/cat/1.png,cat\nflat/dog/1.png,dog\n")
    line = said(vtrain("eval", "--ckpt", "held", "data.name=csv", "data.file=list.csv"))
    assert re.search(r"images  2 images of .*/list\.csv, all that there are", line)


def test_other_held_out_images_than_the_runs_are_told(here: Path, vtrain: Vtrain) -> None:
    done = vtrain("eval", "--ckpt", "held", "data.val_fraction=0.5")
    assert "the model was trained on some of these" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--split", "third"),
            2,
            "there is no split called 'third' (--split): choose one of train",
        ),
        (("data.root=flat", "--split", "val"), 3, "there is no val split"),
        (("data.root=flat", "--split", "test"), 3, "take --split train"),
        *(
            ((f"{key}={value}",), 2, f"{key} has no effect on an evaluation (command line")
            for key, value in {
                "data.resize": "squash",
                "data.crop_fraction": "0.5",
                "data.image_size": "32",
                "data.mean": "[0.5, 0.5, 0.5]",
                "data.balanced": "true",
                "model.drop_path_rate": "0.5",
                "model": "swin_t",
                "augment.mixup": "0.5",
                "optimizer.lr": "1",
                "train.loss": "focal",
                "train.ema_decay": "0.5",
                "seed": "3",
                "checkpoint.keep": "3",
            }.items()
        ),
        (("data={name: image_folder, root: flat, std: [1, 1, 1]}",), 2, "data.std has no effect"),
        (("train.batch_size=4",), 2, "write train.eval_batch_size"),
        (("data.rooot=flat",), 2, "unknown key 'data.rooot'"),
    ],
)
def test_what_an_evaluation_would_ignore_or_has_not_is_one_line(
    here: Path, vtrain: Vtrain, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = vtrain("eval", "--ckpt", "run", *arguments)
    assert done.code == code
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_without_a_checkpoint_it_is_the_newest_finished_run(here: Path, vtrain: Vtrain) -> None:
    assert vtrain("eval").code == 4
    shutil.copytree("run", "runs/c/2026-01-01_00-00-00")
    done = vtrain("eval")
    assert "runs/c/2026-01-01_00-00-00" in done.err
    assert done.out == vtrain("eval", "--ckpt", "run").out


def test_a_run_says_that_test_images_choose_its_best_checkpoint(here: Path, vtrain: Vtrain) -> None:
    shutil.rmtree("photos/val")
    done = vtrain("fit", "c.yaml", "--run-dir", "r", "train.max_steps=1")
    assert done.code == 0
    assert "the test images choose best.pt" in done.err
    shutil.rmtree("r")
    held_out = vtrain("fit", "c.yaml", "--run-dir", "r", "data.val_fraction=0.25")
    assert "the test images choose" not in held_out.err
    assert "split test" in said(vtrain("eval", "--ckpt", "r", "--split", "test"))


@pytest.mark.parametrize(
    "choice",
    [
        ("checkpoint.best_metric=val/top5",),
        ("train.early_stopping={metric: val/top5, mode: max, patience: 2}",),
    ],
)
@pytest.mark.parametrize("command", ["fit", "check"])
def test_top5_of_few_classes_chooses_nothing(
    small_run: Path, vtrain: Vtrain, command: str, choice: tuple[str, ...]
) -> None:
    done = vtrain(command, small_run, *choice)
    assert done.code == 2
    assert "val/top5 is always 1 with 4 classes" in done.err


def test_top5_of_few_classes_is_not_shown_to_people(small_run: Path, vtrain: Vtrain) -> None:
    """It is always 1; programs get what the contract says."""
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1").code == 0
    assert "top5" not in vtrain("eval", "--ckpt", "run").out
    assert json.loads(vtrain("eval", "--ckpt", "run", "--json").out)["val/top5"] == 1
    reported = vtrain("report", "run").out
    assert "accuracy" in reported
    assert "top-5" not in reported


def test_classes_are_matched_by_name_where_there_are_images() -> None:
    targets = torch.tensor([2, 0, 2])
    assert renumbered(targets, ("b", "x", "a"), ("a", "b")).tolist() == [0, 1, 0]
    with pytest.raises(DataError, match=r"class 'x' \(1 of 2 classes are unknown"):
        renumbered(torch.tensor([0, 1]), ("a", "x"), ("a", "b"))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("run", "did you mean --ckpt run?"),
        ("run/best.pt", "did you mean --ckpt run/best.pt?"),
        ("flat", "did you mean data.root=flat?"),
        ("c.yaml", "write KEY=VALUE"),
    ],
)
def test_a_word_that_is_no_override_is_answered_with_what_to_type(
    vtrain: Vtrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run", "flat"):
        Path(name).mkdir()
    Path("run/config.yaml").touch()
    done = vtrain("eval", word)
    assert (done.code, len(done.errors)) == (2, 1)
    assert hint in done.err


@pytest.mark.parametrize("word", ["dev", "Validation", "valid", "eval", "val"])
def test_a_split_goes_by_its_usual_words(word: str) -> None:
    assert split_name(word) == "val"


def test_images_that_have_moved_are_asked_for(here: Path, vtrain: Vtrain) -> None:
    (here / "photos").rename(here / "gone")
    try:
        done = vtrain("eval", "--ckpt", "run")
    finally:  # other tests look at them
        (here / "gone").rename(here / "photos")
    assert done.code == 3
    assert "if it has moved, add data.root=PLACE" in done.err
    assert vtrain("eval", "--ckpt", "run", "data.root=photos").code == 0
