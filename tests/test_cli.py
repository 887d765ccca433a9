import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.harness import Vtrain
from vtrain.cli.commands import COMMANDS


def process(*arguments: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vtrain", *arguments], capture_output=True, text=True, **kwargs
    )


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, vtrain.cli; sys.argv = ['vtrain', '--help']\n"
        "try: vtrain.cli.main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fit" in done.stdout


def test_the_help_lists_every_command_in_a_group(vtrain: Vtrain) -> None:
    help_ = vtrain("--help").out
    groups = re.findall(r"^([A-Z][a-z ]+):\n((?:  +.+\n)+)", help_, flags=re.M)
    found = {title: re.findall(r"^  (\w+) ", lines, flags=re.M) for title, lines in groups}
    found.pop("Options")
    assert found == {title: list(members) for title, members in COMMANDS.items()}
    assert found["Use"] == ["fit", "eval", "predict"]
    assert {"check", "verify", "models", "bench"} <= {*found["Look after"]}
    assert "..." not in help_.partition("Use:")[2]  # no sentence is cut
    assert "Commands:" not in help_


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit x.yaml --overfit 8 --run-dir run", "--run-dir has no effect with --overfit"),
        ("fit x.yaml --overfit 8 --resume", "--resume has no effect with --overfit"),
        (
            "fit x.yaml --overfit 8 --resume --accept-data-change",
            "--resume has no effect with --overfit",
        ),
        (
            "fit x.yaml --overfit 8 --accept-data-change",
            "--accept-data-change has no effect with --overfit",
        ),
        ("fit x.yaml --accept-data-change", "--accept-data-change has no effect without --resume"),
        ("check x.yaml --lr-find --data", "--data has no effect with --lr-find"),
        ("check x.yaml --lr-find --json", "--json has no effect with --lr-find"),
        ("check x.yaml --json", "--json has no effect without --data"),
        ("predict x.png --force", "--force has no effect without --output"),
        ("explain x.png --force", "--force has no effect without --output"),
        ("eval --ckpt x.pt --output y.pt", "--output saves averaged weights"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    vtrain: Vtrain, command: str, message: str
) -> None:
    """Before anything is read: the files do not exist."""
    done = vtrain(*command.split())
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"vtrain: error: {message} (command line): ")


def test_importing_vtrain_does_not_import_torch() -> None:
    code = "import sys, vtrain; assert 'torch' not in sys.modules; vtrain.list_models"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_cycle(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--run-dir", "run")
    assert (done.code, done.out) == (0, "")
    assert "vtrain predict IMAGE --ckpt run" in done.err
    run = small_run.parent / "run"
    for name in ("config.yaml", "env.json", "vtrain.log", "last.pt", "best.pt", "predictions.npz"):
        assert (run / name).is_file()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], "val/top1" in row) for row in rows] == [
        (2, False), (3, False), (3, True), (4, False), (6, False), (6, True),
    ]  # fmt: skip
    status = json.loads((run / "status.json").read_text())
    assert status.pop("time")
    assert status == {
        "state": "finished", "code": 0, "step": 6, "reason": None,
    }  # fmt: skip
    summary = json.loads((run / "summary.json").read_text())
    last = rows[-1]
    assert summary["final"]["val/loss"] == last["val/loss"]

    evaluated = json.loads(vtrain("eval", "--ckpt", "run/last.pt", "--json").out)
    classes = evaluated.pop("per_class")
    assert evaluated == {key: last[key] for key in ("val/loss", "val/top1", "val/top5")}
    images = sum(row["support"] for row in classes)
    hits = sum(row["support"] * (row["recall"] or 0) for row in classes)
    assert hits / images == pytest.approx(evaluated["val/top1"])

    Image.new("RGB", (20, 30), "red").save("red.png")
    predicted = vtrain("predict", "red.png", "--ckpt", run, "--format", "json", "--top-k", 9)
    (record,) = json.loads(predicted.out)
    assert record["image"] == "red.png"
    assert [entry["class"] for entry in record["predictions"]].sort() is None
    assert sum(entry["probability"] for entry in record["predictions"]) == pytest.approx(1)
    assert "the model has 4 classes" in predicted.err


def test_the_saved_config_repeats_the_run_to_the_bit(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "a")
    vtrain("fit", "a/config.yaml", "--run-dir", "b")
    a, b = (torch.load(f"{run}/last.pt", weights_only=True)["state"] for run in "ab")
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name


def test_a_run_without_a_folder_gets_one_of_its_own(small_run: Path, vtrain: Vtrain) -> None:
    for _ in range(2):
        assert vtrain("fit", small_run, "train.max_steps=1").code == 0
    assert len(list(Path("runs/small").iterdir())) == 2
    Image.new("RGB", (20, 30)).save("x.png")
    predicted = vtrain("predict", "x.png")
    newest = max(Path("runs/small").iterdir(), key=lambda run: run.name)
    assert f"using {newest / 'best.pt'}" in predicted.err
    assert predicted.out.startswith("x.png\n")


def test_resume_finishes_and_says_so_when_there_is_nothing_left(
    small_run: Path, vtrain: Vtrain
) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "--resume").code == 0  # starts fresh
    before = Path("run/last.pt").read_bytes()
    again = vtrain("fit", small_run, "--run-dir", "run", "--resume")
    assert again.code == 0
    assert "already complete" in again.err
    assert Path("run/last.pt").read_bytes() == before


def test_eval_leaves_what_fit_left_as_it_is(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    before = {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    first, second = (vtrain("eval", "--ckpt", "run").out for _ in range(2))
    assert first == second
    assert {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()} == before


def test_eval_maps_classes_by_name(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    wrong = vtrain("eval", "--ckpt", "run", "data.num_classes=5")
    assert wrong.code == 3
    assert "does not know class 'class_4'" in wrong.err
    fewer = vtrain("eval", "--ckpt", "run", "data.num_classes=3")
    assert fewer.code == 0


def test_a_misspelt_key_is_one_line_with_place_and_suggestion(
    small_run: Path, vtrain: Vtrain
) -> None:
    small_run.write_text(small_run.read_text().replace("patch_size", "patch_sz"))
    done = vtrain("fit", small_run)
    assert done.code == 2
    assert done.err == (
        f"vtrain: error: unknown key 'model.patch_sz' ({small_run}:2): did you mean 'patch_size'?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "none.yaml"], 2, "the config was not found (none.yaml)"),
        (["fit"], 2, "Missing argument 'CONFIG'"),
        (["fitt"], 2, "No such command 'fitt'"),
        (["fit", "small.yaml", "--nope"], 2, "No such option"),
        (["fit", "small.yaml", "model.patch_size=5"], 2, "image_size (16) must be a multiple of"),
        (
            ["fit", "small.yaml", "schedule={name: cosine, warmup_epochs: 1, warmup_steps: 1}"],
            2,
            "warmup",
        ),
        (["fit", "small.yaml", "data.name=image_folder", "data.root=none"], 2, "data.size"),
        (["check", "folder.yaml"], 3, "no such dataset folder"),
        (["fit", "folder.yaml"], 3, "no such dataset folder"),
        (["fit", "torchvision.yaml"], 3, "data.download=true"),
        (["predict", "none.png", "--ckpt", "x.pt"], 3, "no image was found (none.png)"),
        (["predict", "https://x/y.png"], 2, "only local images"),
        (["predict", "red.png"], 4, "no finished run (runs)"),
        (["predict", "red.png", "--ckpt", "none.pt"], 4, "none.pt"),
        (["eval", "--ckpt", "none.pt"], 4, "none.pt"),
        (["eval", "--ckpt", "https://x/y.pt"], 2, "only local checkpoints"),
        (["eval", "--ckpt", "red.png"], 4, "red.png"),
        (["eval", "--ckpt", "empty"], 4, "no checkpoint in this folder (empty)"),
        (["fit", "small.yaml", "--run-dir", "red.png"], 5, "red.png"),
        (["fit", "small.yaml", "--run-dir", "red.png/x"], 5, "red.png"),
        (["fit", "small.yaml", "--run-dir", "/proc/x"], 5, "/proc/x"),
        (["fit", "small.yaml", "train.device=cuda"], 6, "no CUDA device"),
    ],
)
def test_each_mistake_is_one_line_with_its_exit_code(
    small_run: Path,
    vtrain: Vtrain,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = small_run.read_text().replace("name: fake", "name: image_folder, root: none")
    text = text.replace(", size: 16, num_classes: 4, num_images: 70", "")
    Path("folder.yaml").write_text(text)
    Path("torchvision.yaml").write_text(text.replace("name: image_folder", "name: cifar10"))
    Image.new("RGB", (20, 30)).save("red.png")
    Path("empty").mkdir()
    done = vtrain(*arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("vtrain: error: ")]
    assert lines
    assert all(len(line) <= 300 for line in lines)


def test_debug_shows_the_traceback_and_keeps_the_exit_code(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "model.patch_size=5", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err


def test_an_unreadable_image_spoils_only_its_own_prediction(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (20, 30)).save(name)
    Path("b.png").write_text("<html>")
    done = vtrain("predict", "?.png", "--ckpt", "run", "--format", "json")
    assert done.code == 3
    records = json.loads(done.out)
    assert [("predictions" in r, "error" in r) for r in records] == [
        (True, False), (False, True), (True, False),
    ]  # fmt: skip
    assert "1 of 3 images could not be read" in done.err


def test_predictions_as_csv_are_inert_and_go_to_a_file(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    Image.new("RGB", (20, 30)).save("=cmd().png")
    done = vtrain(
        "predict", "=cmd().png", "--ckpt", "run", "--format", "csv", "--output", "p.csv",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "")
    lines = Path("p.csv").read_text().splitlines()
    names = [f"{name}_{rank}" for rank in (2, 3, 4) for name in ("class", "probability")]
    assert lines[0] == ",".join(["image,class,probability", *names, "error"])
    assert lines[1].startswith("'=cmd().png,class_")
    assert len(lines) == 2


def test_the_ending_of_the_output_chooses_its_form_and_what_was_written_is_said(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 30)).save(name)
    predict = ("predict", "a.png", "b.png", "--ckpt", "run", "--output")
    done = vtrain(*predict, "p.json")
    assert (done.code, done.out) == (0, "")
    assert "wrote 2 images to p.json (format json)" in done.err
    assert [record["image"] for record in json.loads(Path("p.json").read_text())] == [
        "a.png", "b.png",
    ]  # fmt: skip
    assert vtrain(*predict, "p.csv").code == 0
    assert Path("p.csv").read_text().startswith("image,class,")
    refused = vtrain(*predict, "p.xlsx")
    assert refused.code == 2
    assert "predictions are not written as .xlsx (p.xlsx): name it .csv" in refused.err
    assert not Path("p.xlsx").exists()


def test_predictions_replace_a_file_only_by_force(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    Image.new("RGB", (20, 30)).save("x.png")
    Path("mine.txt").write_text("mine")
    predict = ("predict", "x.png", "--ckpt", "run", "--output", "mine.txt")
    refused = vtrain(*predict)
    assert (refused.code, refused.out) == (5, "")
    assert "this file is there already (mine.txt): choose another name or --force" in refused.err
    assert Path("mine.txt").read_text() == "mine"
    assert vtrain(*predict, "--force").code == 0
    assert Path("mine.txt").read_text().startswith("x.png\n")


def test_a_run_folder_that_holds_a_run_is_not_written_again(
    small_run: Path, vtrain: Vtrain
) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}

    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    before = contents()
    again = vtrain("fit", small_run, "--run-dir", "run", "seed=7")
    assert again.code == 5
    assert "already holds a run (run): add --resume" in again.err
    assert contents() == before


def test_a_changed_config_does_not_resume_a_run(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=4")
    status = Path("run/status.json")
    status.write_text(status.read_text().replace("finished", "failed"))
    done = vtrain("fit", small_run, "--run-dir", "run", "--resume", "optimizer.weight_decay=0")
    assert done.code == 2
    assert "other values of optimizer.weight_decay (" in done.err
    assert "as `vtrain fit run --resume` does" in done.err
    harmless = ("--resume", "train.max_steps=5", "logging.every_steps=1", "data.num_workers=0")
    assert vtrain("fit", small_run, "--run-dir", "run", *harmless).code == 0


@pytest.mark.parametrize("damage", ["truncated", "pickle", "html"])
def test_a_damaged_or_hostile_checkpoint_is_refused_and_not_run(
    small_run: Path, vtrain: Vtrain, damage: str
) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    bad = Path("bad.pt")
    if damage == "truncated":
        bad.write_bytes(Path("run/last.pt").read_bytes()[:5000])
    elif damage == "html":
        bad.write_text("<!doctype html><title>Sign in</title>")
    else:
        torch.save({"format": 1, "x": Hostile()}, bad)
    done = vtrain("eval", "--ckpt", bad)
    assert done.code == 4
    assert "bad.pt" in done.err
    assert done.err.count("\n") == 1
    assert not Path("canary").exists()


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch canary",)


def test_names_with_control_characters_cannot_steer_the_terminal(
    small_run: Path, vtrain: Vtrain
) -> None:
    done = vtrain("predict", "\x1b[2Jx.png", "--ckpt", "x.pt")
    assert done.code == 3
    assert "\x1b" not in done.err
    assert "\\x1b[2Jx.png" in done.err


def test_strange_run_folders_work(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "train.max_steps=1", "--run-dir", "ü ñ 漢 -x").code == 0
    assert vtrain("eval", "--ckpt", "ü ñ 漢 -x").code == 0


def test_check_says_what_a_run_would_be(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", small_run)
    assert done.code == 0
    assert "weight_decay: 0.05" in done.out
    assert "6 (3 per epoch)" in done.out
    assert "patch_embed" in done.out
    assert not Path("runs").exists()


def test_check_reads_the_weights_that_a_run_would_start_from(
    small_run: Path, vtrain: Vtrain
) -> None:
    assert vtrain("fit", small_run, "train.max_steps=1", "--run-dir", "before").code == 0
    done = vtrain("check", small_run, "model.pretrained=before/best.pt", "data.num_classes=5")
    assert re.search(r"^weights +vtrain: \d+ tensors loaded, 2 new \(head.weight, ", done.out, re.M)
    done = vtrain("check", small_run, "model.pretrained=nowhere.pt")
    assert done.code == 4
    assert "nowhere.pt" in done.err


def test_models_lists_names_parameters_and_references(vtrain: Vtrain) -> None:
    done = vtrain("models", "vit_t")
    assert "5,717,416" in done.out
    assert "1.25" in done.out
    assert "2010.11929" in done.out


def test_a_model_named_exactly_is_described_with_its_arguments(vtrain: Vtrain) -> None:
    done = vtrain("models", "swin_t")
    assert "28,288,354" in done.out
    for argument in ("relative_position_bias", "absolute_position_embedding", "window_shift"):
        assert done.out.count(argument) >= 2  # what it means, and its default


def test_a_pattern_without_a_match_is_answered_with_the_nearest(vtrain: Vtrain) -> None:
    done = vtrain("models", "swinn_t")
    assert done.code == 2
    assert "did you mean 'swin_t'" in done.err


@pytest.mark.slow
def test_a_config_mistake_is_reported_quickly_by_the_real_command(small_run: Path) -> None:
    started = time.monotonic()
    done = process("fit", str(small_run), "train.epoch=1")
    assert done.returncode == 2
    assert "did you mean 'epochs'" in done.stderr
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(small_run: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m vtrain models | head -n 1", shell=True, capture_output=True
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_a_run_that_never_began_does_not_occupy_its_folder(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "model.patch_size=5").code == 2
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1").code == 0
