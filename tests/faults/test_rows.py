"""Rows of the fault matrix that only the whole program can show; `matrix.py` says which."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.base_configs import FAULT_RUN
from tests.faults import interrupts, mounts, running, values
from tests.faults.product import differences, fault_config, newest_step, result
from tests.faults.running import dying_after, fit, reference
from tests.harness import Command, Result, Vtrain, run
from vtrain.files import atomic
from vtrain.files.container import FORMAT, load_checkpoint, save_checkpoint
from vtrain.files.lock import RunLock
from vtrain.files.runs import RunFolder
from vtrain.files.store import verify

ROOT = Path(__file__).parents[2]
needs_mounts = pytest.mark.skipif(not mounts.available(), reason="this user may not mount")
SHORT = ("train.max_steps=2",)


def one_line(ended: Result, code: int, *says: str) -> str:
    """Check that a command failed with one line that says all of `says`; return it."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    (line,) = ended.errors
    assert line.isprintable()
    for text in says:
        assert text in line
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def killed(folder: Path, run_dir: Path, step: int = 8, *more: object) -> None:
    """Start the tiny run and kill it once it has saved `step`."""
    ended = fit(folder, run_dir, *more, prepare=dying_after(step)).wait()
    assert ended.code == 128 + signal.SIGKILL, ended.err


def planted(root: Path, count: int) -> None:
    """Write `count` small pictures of each of four classes."""
    for name in "abcd":
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number * 20, 9, ord(name))).save(
                root / name / f"{number}.png"
            )


def described(run_dir: Path, change: dict[str, Any]) -> Path:
    """Return a checkpoint whose description of the model is changed."""
    content = load_checkpoint(run_dir / "last.pt")
    content["model"]["arguments"] |= change
    content.pop("format")
    path = run_dir.parent / "changed.pt"
    save_checkpoint(path, content)
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Return the folder of a run of two steps."""
    run_dir = tmp_path / "trained"
    ended = fit(tmp_path, run_dir, *SHORT).wait()
    assert ended.code == 0, ended.err
    return run_dir


class TestA:
    """Writing: checkpoints and the run folder."""

    @needs_mounts
    def test_a_full_disk_ends_the_run_with_what_is_needed_and_free(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        ended = fit(tmp_path, disk / "run", prepare=mounts.small(disk, "60k")).wait()
        one_line(ended, 5, "no space", "MB are needed", "MB are free", str(disk))

    @needs_mounts
    def test_training_goes_on_without_tensorboard_if_its_disk_is_full(self, tmp_path: Path) -> None:
        events = tmp_path / "run" / "tensorboard"
        events.mkdir(parents=True)
        more = ("logging.tensorboard=true", "logging.every_steps=1")
        ended = fit(tmp_path, tmp_path / "run", *more, prepare=mounts.small(events, "4k")).wait()
        assert ended.code == 0, ended.err
        assert len([line for line in ended.err.splitlines() if "TensorBoard" in line]) == 1

    @needs_mounts
    def test_a_read_only_place_is_named_before_anything_is_built(self, tmp_path: Path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        ended = fit(tmp_path, place / "run", prepare=mounts.read_only(place)).wait()
        one_line(ended, 5, "read-only", str(place))

    def test_a_run_folder_under_or_at_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
            one_line(fit(tmp_path, run_dir).wait(), 5, "is a file", str(tmp_path / "file"))
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_planted_link_is_replaced_and_what_it_points_to_stays(self, tmp_path: Path) -> None:
        run_dir, mine = tmp_path / "run", tmp_path / "mine"
        killed(tmp_path, run_dir)
        mine.write_text("mine")
        for name in ("last.pt", "best.pt", "status.json", "summary.json"):
            (run_dir / name).unlink(missing_ok=True)
            (run_dir / name).symlink_to(mine)
        ended = fit(tmp_path, run_dir).wait()
        assert ended.code == 0, ended.err
        assert mine.read_text() == "mine"
        assert not any(path.is_symlink() for path in run_dir.iterdir())
        assert list(differences(reference(tmp_path), result(run_dir))) == []

    @pytest.mark.parametrize(("name", "code"), [("vtrain.log", 5), ("metrics.jsonl", 0)])
    def test_no_log_is_written_through_a_planted_link(
        self, tmp_path: Path, name: str, code: int
    ) -> None:
        run_dir, mine = tmp_path / "run", tmp_path / "mine"
        run_dir.mkdir()
        mine.write_text("mine")
        (run_dir / name).symlink_to(mine)
        ended = run(tmp_path, "fit", fault_config(tmp_path), "--run-dir", run_dir, *SHORT)
        assert ended.code == code, ended.err
        assert mine.read_text() == "mine"
        if code:
            one_line(ended, code, name)

    def test_a_run_folder_may_have_any_name_and_messages_show_it_safely(
        self, tmp_path: Path
    ) -> None:
        for name in ("-x\ny", "\x1b[2J ü 漢"):
            run_dir = tmp_path / name
            assert fit(tmp_path, run_dir, *SHORT).wait().code == 0
            refused = run(tmp_path, "fit", fault_config(tmp_path), "--run-dir", run_dir)
            one_line(refused, 5, "already holds a run")
            assert "\x1b" not in refused.err
            assert [found.problem for found in verify(run_dir)] == [None] * len(verify(run_dir))

    @pytest.mark.slow
    def test_leftovers_of_kills_are_swept_at_the_next_start(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        killed(tmp_path, run_dir)
        for number in range(20):
            (run_dir / f"{atomic.PREFIX}{number}{atomic.SUFFIX}").write_bytes(bytes(1000))
        assert fit(tmp_path, run_dir).wait().code == 0
        assert not list(run_dir.glob(f"{atomic.PREFIX}*"))
        assert "removed 20 unfinished files" in (run_dir / "vtrain.log").read_text()

    @pytest.mark.slow
    def test_the_lock_of_a_killed_run_is_free(self, tmp_path: Path) -> None:
        killed(tmp_path, tmp_path / "run")
        assert (tmp_path / "run" / ".lock").exists()
        with RunLock(tmp_path / "run"):
            refused = fit(tmp_path, tmp_path / "run").wait()
        one_line(refused, 5, f"locked by pid {os.getpid()} on host")
        assert fit(tmp_path, tmp_path / "run").wait().code == 0

    @pytest.mark.dist
    def test_while_a_rank_of_a_dead_launcher_lives_nobody_else_writes(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        commands = running.together(tmp_path, run_dir, 2)
        try:
            running.saved(commands[0], run_dir)
            one_line(fit(tmp_path, run_dir).wait(), 5, f"locked by pid {commands[0].pid}")
        finally:
            for command in commands:
                command.kill()
        assert fit(tmp_path, run_dir).wait().code == 0


class TestB:
    """Resume and exactness."""

    def test_a_finished_run_is_left_as_it_is(self, trained: Path) -> None:
        before = contents(trained)
        ended = fit(trained.parent, trained, *SHORT).wait()
        assert ended.code == 0
        assert "already complete" in ended.err
        assert contents(trained) == before

    @pytest.mark.slow
    def test_a_change_that_changes_the_result_is_refused_by_name(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        killed(tmp_path, run_dir)
        before = {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}
        for change in (
            *("seed=4", "model.depth=2", "model.name=deit_ti", "data.num_images=46"),
            *("augment.mixup=0", "optimizer.name=adam", "optimizer.weight_decay=0"),
            *("train.batch_size=9", "train.ema_decay=0.8"),
            "train.loss={label_smoothing: 0.1}",
        ):
            one_line(fit(tmp_path, run_dir, change).wait(), 2, change.split("=")[0])
        assert {path.name: path.read_bytes() for path in run_dir.glob("*.pt")} == before

    @pytest.mark.dist
    def test_the_number_of_processes_may_change_between_restarts(self, tmp_path: Path) -> None:
        # Dropout is drawn for each rank; all else is the same whoever computes it.
        expected = reference(tmp_path, "model.drop_rate=0")
        run_dir = tmp_path / "run"
        for ranks, step in ((2, 4), (1, 8), (3, 12), (1, None)):
            commands = running.together(tmp_path, run_dir, ranks, "model.drop_rate=0")
            if step is None:
                assert commands[0].wait().code == 0
                break
            running.saved(commands[0], run_dir, step)
            for command in commands:
                command.kill()
        final = result(run_dir)
        for name, tensor in expected["state.model"].items():
            torch.testing.assert_close(final["state.model"][name], tensor, rtol=1e-3, atol=1e-4)
        assert [row["step"] for row in final["rows"]] == [row["step"] for row in expected["rows"]]

    def test_resume_without_a_run_is_a_fresh_start(self, tmp_path: Path) -> None:
        ended = fit(tmp_path, tmp_path / "new", *SHORT).wait()
        assert ended.code == 0
        assert newest_step(tmp_path / "new") == 2
        ended = run(tmp_path, "fit", fault_config(tmp_path), "--resume", *SHORT)
        assert ended.code == 0, ended.err
        assert ended.err.count("there is no unfinished run of tiny: starting a new one") == 1

    def test_changed_images_are_refused_unless_that_is_accepted(self, tmp_path: Path) -> None:
        images, run_dir = tmp_path / "images", tmp_path / "run"
        planted(images, 6)
        more = ("data={name: image_folder, root: images, image_size: 8, val_fraction: 0.25}",)
        killed(tmp_path, run_dir, 2, *more)
        before = {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}
        planted(images, 12)
        line = one_line(fit(tmp_path, run_dir, *more).wait(), 3, "images are not those", "run")
        # The place of each name decides its side: only how many there are in all is known.
        train, val = re.findall(r"(?:train|val): (\d+) then, (\d+) now", line)
        assert [int(a) + int(b) for a, b in zip(train, val, strict=True)] == [24, 48]
        assert int(train[0]) > int(val[0]) > 0
        assert {path.name: path.read_bytes() for path in run_dir.glob("*.pt")} == before
        ended = fit(tmp_path, run_dir, *more, "--accept-data-change").wait()
        assert ended.code == 0, ended.err
        assert "going on" in ended.err
        state = load_checkpoint(run_dir / "last.pt")["state"]
        assert (state["epoch"], state["epoch_step"], state["step"]) == (3, 0, 3 * 5)

    def test_other_classes_are_refused_and_named(self, tmp_path: Path) -> None:
        images, run_dir = tmp_path / "images", tmp_path / "run"
        planted(images, 6)
        more = ("data={name: image_folder, root: images, image_size: 8, val_fraction: 0.25}",)
        killed(tmp_path, run_dir, 2, *more)
        (images / "a").rename(images / "x")
        for accept in ((), ("--accept-data-change",)):
            ended = fit(tmp_path, run_dir, *more, *accept).wait()
            one_line(ended, 3, "1 missing ('a')", "1 new ('x')")

    def test_a_resume_with_nothing_left_to_do_keeps_the_last_figures(self, tmp_path: Path) -> None:
        reference(tmp_path)
        killed(tmp_path, tmp_path / "run", 18)  # between the last save and the summary
        assert not (tmp_path / "run" / "summary.json").exists()
        assert fit(tmp_path, tmp_path / "run").wait().code == 0
        expected, found = (
            json.loads((tmp_path / name / "summary.json").read_text())["final"]
            for name in ("reference", "run")
        )
        for final in (expected, found):
            final.pop("train/images_per_second")
        assert found == expected

    def test_weights_alone_are_no_run_to_go_on_with(self, trained: Path) -> None:
        content = load_checkpoint(trained / "last.pt")
        content["state"] = {"model": content["state"]["model"], "ema": None}
        content.pop("format")
        run_dir = trained.parent / "other"
        run_dir.mkdir()
        save_checkpoint(run_dir / "last.pt", content)
        ended = fit(trained.parent, run_dir, *SHORT).wait()
        one_line(ended, 4, "no run can go on from it", "model.pretrained")

    def test_a_damaged_stored_config_is_named(self, trained: Path) -> None:
        content = load_checkpoint(trained / "last.pt")
        content["config"] = content["config"].replace("epochs: 3", "epochs: -3")
        content.pop("format")
        run_dir = trained.parent / "other"
        run_dir.mkdir()
        save_checkpoint(run_dir / "last.pt", content)
        ended = fit(trained.parent, run_dir, *SHORT).wait()
        one_line(ended, 4, "the stored config is not valid: train.epochs is -3")
        # Nor is the user's own override to blame for it.
        ended = run(trained.parent, "eval", "--ckpt", run_dir, "data.limit=2")
        one_line(ended, 4, "the stored config is not valid: train.epochs is -3")

    def test_a_stored_config_without_a_number_of_images_is_refused(self, trained: Path) -> None:
        content = load_checkpoint(trained / "last.pt")
        content["config"] = content["config"].replace("batch_size: 8", "batch_size: auto")
        content.pop("format")
        run_dir = trained.parent / "other"
        run_dir.mkdir()
        save_checkpoint(run_dir / "last.pt", content)
        ended = fit(trained.parent, run_dir, *SHORT).wait()
        one_line(ended, 4, "the stored config has no number as train.batch_size")

    def test_a_checkpoint_of_a_newer_vtrain_is_refused(self, trained: Path) -> None:
        content = {**load_checkpoint(trained / "last.pt"), "format": FORMAT + 1}
        newer = trained.parent / "newer.pt"
        torch.save(content, newer)
        one_line(run(trained.parent, "eval", "--ckpt", newer), 4, "made by a newer vtrain")


class TestC:
    """Reading checkpoints."""

    @pytest.mark.slow
    def test_a_damaged_newest_is_passed_over_and_the_end_is_the_same(self, tmp_path: Path) -> None:
        expected, run_dir = reference(tmp_path), tmp_path / "run"
        killed(tmp_path, run_dir)
        path = run_dir / f"step-{newest_step(run_dir):08d}.pt"
        with path.open("r+b") as file:
            file.seek(5000)
            file.write(b"damage")
        ended = fit(tmp_path, run_dir).wait()
        assert ended.code == 0, ended.err
        assert "skipped a checkpoint: the checkpoint is not the one that was written" in ended.err
        assert list(differences(expected, result(run_dir))) == []
        assert path.with_name(path.name + ".corrupt").exists()

    def test_if_every_checkpoint_is_damaged_the_run_does_not_start_anew(
        self, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / "run"
        killed(tmp_path, run_dir)
        for path in {path.stat().st_ino: path for path in run_dir.glob("*.pt")}.values():
            os.truncate(path, 5000)
        for _ in range(2):
            one_line(fit(tmp_path, run_dir).wait(), 4, "checkpoints is intact", str(run_dir))

    def test_each_wrong_kind_of_checkpoint_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "page").write_text("<html>log in</html>")
        wrong = {
            "nowhere": (4, "no such checkpoint"),
            "folder": (4, "no checkpoint in this folder"),
            "pipe": (4, "not a checkpoint file"),
            "/dev/zero": (4, "not a checkpoint file"),
            "page": (4, "HTML"),
            "https://example.org/x.pt": (2, "only local checkpoints"),
        }
        for name, (code, says) in wrong.items():
            one_line(run(tmp_path, "eval", "--ckpt", name), code, says)

    def test_each_kind_of_damage_is_exit_code_4(self, trained: Path) -> None:
        whole, page = (trained / "last.pt").read_bytes(), 4096
        damaged = {
            "cut": whole[: len(whole) // 2],
            "lost": whole[:page] + bytes(page) + whole[2 * page :],
            "swapped": whole[:page] + whole[2 * page : 3 * page] + whole[page : 2 * page]
            + whole[3 * page :],
            "longer": whole + bytes(10),
            "shifted": bytes(10) + whole,
            "flipped": whole[:6000] + bytes([whole[6000] ^ 1]) + whole[6001:],
        }  # fmt: skip
        for name, content in damaged.items():
            path = trained.parent / f"{name}.pt"
            path.write_bytes(content)
            for command in (("eval", "--ckpt", path), ("verify", path)):
                one_line(run(trained.parent, *command), 4, path.name)
            assert path.read_bytes() == content

    def test_a_checkpoint_that_its_manifest_does_not_know_is_passed_over(
        self, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / "run"
        killed(tmp_path, run_dir)
        newest, older = (run_dir / f"step-0000000{step}.pt" for step in (8, 6))
        other = older.read_bytes()
        newest.unlink()
        newest.write_bytes(other)  # intact in itself, but not what was written under that name
        one_line(run(tmp_path, "eval", "--ckpt", newest), 4, newest.name)
        ended = fit(tmp_path, run_dir).wait()
        assert ended.code == 0, ended.err
        assert "skipped a checkpoint: the checkpoint is not the one that was written" in ended.err
        assert str(newest) in ended.err
        assert newest.with_name(newest.name + ".corrupt").read_bytes() == other
        assert list(differences(reference(tmp_path), result(run_dir))) == []

    def test_a_manifest_that_names_other_places_is_refused(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        killed(tmp_path, run_dir)
        manifest = run_dir / "checkpoints.json"
        text, outside = manifest.read_text(), tmp_path / "step-00000006.pt"
        outside.write_text("mine")
        kept = {path.name: path.read_bytes() for path in run_dir.glob("*.pt")}
        for name in ("../step-00000006.pt", str(outside)):
            manifest.write_text(text.replace("step-00000006.pt", name))
            for ended in (fit(tmp_path, run_dir).wait(), run(tmp_path, "verify", run_dir)):
                one_line(ended, 4, "the manifest is damaged", "plain name", str(manifest))
        assert outside.read_text() == "mine"
        assert {path.name: path.read_bytes() for path in run_dir.glob("*.pt")} == kept

    def test_the_content_of_a_checkpoint_decides_and_not_its_name(self, trained: Path) -> None:
        from tests.faults import corpus

        folder = trained.parent
        (folder / "x.safetensors").write_bytes(corpus.CORPUS["os_system"](folder / "canary"))
        one_line(run(folder, "eval", "--ckpt", "x.safetensors"), 4, "holds code", "x.safetensors")
        assert not (folder / "canary").exists()
        (folder / "x.jpg").write_bytes((trained / "last.pt").read_bytes())
        named = run(folder, "eval", "--ckpt", "x.jpg", "--json")
        assert named.code == 0, named.err
        assert named.out == run(folder, "eval", "--ckpt", trained / "last.pt", "--json").out

    def test_classes_that_have_other_numbers_in_the_data_are_told_apart_by_name(
        self, tmp_path: Path
    ) -> None:
        planted(tmp_path / "images", 6)
        data = "data={name: image_folder, root: images, image_size: 8, val_fraction: 0.25}"
        assert fit(tmp_path, tmp_path / "run", data).wait().code == 0
        for split in ("train", "val"):  # c and d have the numbers 0 and 1 here
            planted(tmp_path / "other" / split, 6)
            for name in "ab":
                shutil.rmtree(tmp_path / "other" / split / name)
        files = sorted((tmp_path / "other" / "val").rglob("*.png"))
        asked = ("predict", *files, "--ckpt", "run", "--format", "json")
        answers = json.loads(run(tmp_path, *asked).out)
        right = [Path(a["image"]).parent.name == a["predictions"][0]["class"] for a in answers]
        data = "data={name: image_folder, root: other}"
        ended = run(tmp_path, "eval", "--ckpt", "run", "--json", data)
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["val/top1"] == pytest.approx(sum(right) / len(right))
        (tmp_path / "other" / "val" / "c").rename(tmp_path / "other" / "val" / "x")
        (tmp_path / "other" / "train" / "c").rename(tmp_path / "other" / "train" / "x")
        one_line(run(tmp_path, "eval", "--ckpt", "run", data), 3, "'x'", "1 of 2 classes")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"depth": -1}, "model.depth is -1"),
            ({"embed_dim": 1000}, "reshaped"),
            ({"embed_dim": 10**7}, "too large"),
            ({"num_registers": 10**30}, "larger than any memory"),
            ({"patch_size": "../../etc/passwd"}, "model.patch_size is '../../etc/passwd'"),
            ({"depth": 3}, "missing"),
            ({"embed_dim": 32}, "reshaped"),
            ({"_target_": "os.system"}, "model._target_ is 'os.system'"),
        ],
    )
    def test_a_hostile_description_of_the_model_is_refused(
        self, trained: Path, change: dict[str, Any], says: str
    ) -> None:
        one_line(run(trained.parent, "eval", "--ckpt", described(trained, change)), 4, says)

    def test_a_model_of_absurd_depth_is_refused_before_it_is_built(self, trained: Path) -> None:
        hostile = described(trained, {"depth": 10**9})
        command = Command(trained.parent, "eval", "--ckpt", hostile)
        one_line(command.wait(20), 4, "model.depth is 1000000000", "less than or equal to 1000")

    def test_data_of_other_classes_is_refused_with_both_counts(self, trained: Path) -> None:
        ended = run(trained.parent, "eval", "--ckpt", trained, "data.num_classes=10")
        one_line(ended, 3, "'class_4'", "6 of 10 classes", "the model has 4")

    def test_weights_that_do_not_fit_are_counted(self, trained: Path) -> None:
        content = load_checkpoint(trained / "last.pt")
        weights = content["state"]["ema"]["weights"]
        weights["extra"] = weights.pop("head.weight")
        content.pop("format")
        odd = trained.parent / "odd.pt"
        save_checkpoint(odd, content)
        one_line(
            run(trained.parent, "eval", "--ckpt", odd), 4, "1 missing, 1 unexpected", "head.weight"
        )

    def test_the_environment_cannot_make_unpickling_unsafe(self, tmp_path: Path) -> None:
        from tests.faults import corpus

        path, canary = tmp_path / "x.pt", tmp_path / "canary"
        path.write_bytes(corpus.CORPUS["os_system"](canary))
        unsafe = partial(os.environ.update, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        ended = run(tmp_path, "eval", "--ckpt", path, prepare=unsafe)
        one_line(ended, 4, "holds code ('os.system')")
        assert not canary.exists()


def behind_stderr(kind: str) -> None:
    """Put something under stderr of which no byte ever arrives."""
    if kind == "closed":
        os.close(2)
    elif kind == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)


class TestD:
    """Config and command line."""

    @pytest.mark.parametrize("kind", ["closed", "full disk", "no reader"])
    def test_training_goes_on_whatever_stands_behind_stderr(
        self, tmp_path: Path, kind: str
    ) -> None:
        run_dir = tmp_path / "run"
        more = (*SHORT, "logging.every_steps=1", "data.cache=none", "data.num_workers=1")
        ended = fit(tmp_path, run_dir, *more, prepare=partial(behind_stderr, kind)).wait()
        assert (ended.code, ended.err) == (0, "")
        assert RunFolder(run_dir).is_finished
        assert "error" not in (run_dir / "vtrain.log").read_text().lower()

    def test_a_run_whose_last_step_diverges_says_so(self, tmp_path: Path) -> None:
        more = ("train.max_steps=1", "optimizer={name: sgd, lr: 1e30}", "train.ema_decay=null")
        ended = fit(tmp_path, tmp_path / "run", *more, "schedule.warmup_epochs=0").wait()
        one_line(ended, 7, "val/loss is not finite after step 1", "lower optimizer.lr")

    @pytest.mark.slow
    def test_ctrl_c_at_random_moments_of_start_up_leaves_nothing_half_made(
        self, tmp_path: Path
    ) -> None:
        trials = islice(interrupts.early(tmp_path, random.Random(5)), 8)
        assert [found for found in trials if found] == []

    def test_a_number_that_nobody_means_is_no_bug(self) -> None:
        trials = islice(values.checks(random.Random(6)), 25)
        assert [found for found in trials if found] == []

    @pytest.mark.parametrize("value", ["[1]", "[]", "[1, 2, 3]", "[a, b]", "{a: 1}", "7"])
    def test_a_list_of_the_wrong_length_or_type_is_a_mistake(
        self, tmp_path: Path, vtrain: Vtrain, value: str
    ) -> None:
        ended = vtrain("check", fault_config(tmp_path), f"augment.crop_scale={value}")
        assert ended.code == 2, ended.err
        assert ended.errors
        assert all("augment.crop_scale" in line for line in ended.errors)

    def test_a_wrong_value_is_exit_code_2_and_names_its_key(
        self, tmp_path: Path, vtrain: Vtrain
    ) -> None:
        numbers = ("010", "0o10", "1_0", "12:30", "yes", "~", "2024-01-01", "2.5", "true", "[8]")
        numbers += ("{a: 8}", "eight", "''", "0", "-1")
        changes = [
            *((f"train.epochs={value}", "train.epochs") for value in numbers),
            *((f"train.ema_decay={value}", "ema_decay") for value in (".nan", ".inf", "1.5", "-1")),
            *((f"optimizer.lr={value}", "optimizer.lr") for value in ("1e999", "-1", "on", "[]")),
            *((f"data.num_workers={value}", "num_workers") for value in ("-1", "1000000")),
            *((f"data.image_size={value}", "image_size") for value in ("0", "1000000")),
            *((f"train.compile={value}", "train.compile") for value in ("yes", "1", "maybe")),
            *((f"model.name={name}", name) for name in ("os.system", "__class__", "vit_tx")),
            ("data.name=../x", "unknown dataset"),
            ("optimizer.name=torch.optim.SGD", "unknown optimizer"),
            ("learning_rte=1", "learning_rte"),
            ("train.epoch=1", "did you mean 'epochs'"),
            ("train..epochs=1", "KEY=VALUE"),
            ("train.epochs", "KEY=VALUE"),
            ("train.epochs.x=1", "no section"),
        ]
        for change, says in changes:
            ended = vtrain("check", fault_config(tmp_path), change)
            assert ended.code == 2, (change, ended.code, ended.err)
            assert says in "".join(ended.errors), (change, ended.err)
            assert "Traceback" not in ended.err

    def test_numbers_in_yaml_mean_what_they_say(self, tmp_path: Path, vtrain: Vtrain) -> None:
        for value in ("1e-3", "1E-3", "0.001", "+1e-3"):
            ended = vtrain("check", fault_config(tmp_path), f"optimizer.lr={value}")
            assert ended.code == 0, (value, ended.err)
            assert "lr: 0.001" in ended.out

    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            (("model.patch_size=3",), ("image_size (8)", "patch_size (3)")),
            (("model.num_heads=5",), ("embed_dim (16)", "num_heads (5)")),
            (
                ("schedule.warmup_epochs=3", "schedule.warmup_steps=2"),
                ("warmup_epochs (3)", "warmup_steps (2)"),
            ),
            (("model.pooling=mean", "model.distillation_token=true"), ("pooling", "distillation")),
            (("model.embed_dim=18", "model.position_embedding=sincos_2d"), ("embed_dim (18)",)),
            (("data.val_fraction=0.5", "data.fold={of: 5, index: 0}"), ("val_fraction", "fold")),
        ],
    )
    def test_values_that_contradict_each_other_are_both_named(
        self, tmp_path: Path, vtrain: Vtrain, changes: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        one_line(vtrain("check", fault_config(tmp_path), *changes), 2, *names)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "expected a mapping of sections, found nothing"),
            (b"- 1", "found a list"),
            (b"seed: 1\n---\nseed: 2", "several"),
            (b"model: {name: [}", "YAML syntax"),
            (b"model:\n\tname: vit_ti", "YAML syntax"),
            (FAULT_RUN.encode("utf-16"), "not UTF-8"),
            (b"\0", "this is no text"),
            (FAULT_RUN.encode() + b"seed: 4\n", "'seed' appears twice"),
            (FAULT_RUN.encode() + b"canary: !!python/object/apply:os.mkdir [canary]\n", "tag"),
            (FAULT_RUN.encode() + b"canary: {_target_: os.mkdir, path: canary}\n", "unknown key"),
            (b"a: &a [1]\nb: [*a, *a]\n", "anchors and aliases"),
            (b"a: " + b"[" * 200, "nested deeper"),
            (FAULT_RUN.encode() + b"#" * 1_000_000, "larger than"),
        ],
        ids=str,
    )
    def test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing(
        self, tmp_path: Path, vtrain: Vtrain, content: bytes, says: str
    ) -> None:
        path = tmp_path / "odd.yaml"
        path.write_bytes(content)
        ended = vtrain("fit", path, "--run-dir", tmp_path / "run")
        assert ended.code == 2, ended.err
        assert any(says in line and "odd.yaml" in line for line in ended.errors), ended.err
        assert "Traceback" not in ended.err
        assert not (tmp_path / "canary").exists()
        assert not (tmp_path / "run").exists()


def workers_get_at(step: int, number: int) -> None:
    """Send a signal to every data worker in one training step."""
    from vtrain.engine.trainer import Trainer

    real = Trainer.train_step

    def train_step(self: Trainer, *arguments: Any) -> Any:
        if self.state.step == step:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            assert children
            for child in children:
                os.kill(int(child), number)
        return real(self, *arguments)

    Trainer.train_step = train_step  # type: ignore[method-assign]


def at_step(step: int, what: Callable[[], object]) -> None:
    """Do something at the start of one training step."""
    from vtrain.engine.trainer import Trainer

    real = Trainer.train_step

    def train_step(self: Trainer, *arguments: Any) -> Any:
        if self.state.step == step:
            what()
        return real(self, *arguments)

    Trainer.train_step = train_step  # type: ignore[method-assign]


class TestG:
    """Data workers."""

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
    def test_a_lost_worker_ends_the_run_and_it_goes_on_as_if_nothing_had_happened(
        self, tmp_path: Path, number: int
    ) -> None:
        run_dir, workers = tmp_path / "run", ("data.cache=none", "data.num_workers=2")
        ended = fit(tmp_path, run_dir, *workers, prepare=partial(workers_get_at, 7, number)).wait()
        one_line(ended, 8, "worker")
        assert RunFolder(run_dir).read_status()["code"] == 8
        assert [found for found in verify(run_dir) if found.problem] == []
        assert newest_step(run_dir) >= 6
        assert fit(tmp_path, run_dir, *workers).wait().code == 0
        assert list(differences(reference(tmp_path), result(run_dir))) == []

    def test_a_worker_that_hangs_ends_the_run_after_its_time(self, tmp_path: Path) -> None:
        def hanging() -> None:
            from vtrain.data.loading.decoded import Decoded

            real = Decoded.__init__

            def init(self: Decoded, *arguments: Any, **options: Any) -> None:
                real(self, *arguments, **options)
                self.timeout = 1

            Decoded.__init__ = init  # type: ignore[method-assign]
            workers_get_at(7, signal.SIGSTOP)

        run_dir, workers = tmp_path / "run", ("data.cache=none", "data.num_workers=2")
        ended = fit(tmp_path, run_dir, *workers, prepare=hanging).wait(40)
        one_line(ended, 8, "a data worker timed out")
        assert RunFolder(run_dir).read_status()["code"] == 8
        assert [found for found in verify(run_dir) if found.problem] == []
        assert newest_step(run_dir) >= 6

    def test_an_exception_that_cannot_be_pickled_is_exit_code_3(self, tmp_path: Path) -> None:
        def raising() -> None:
            from vtrain.data.datasets.samples import ArraySamples

            class LocalError(Exception):
                pass

            def image(*_: Any) -> Any:
                raise LocalError("strange")

            ArraySamples.image = image  # type: ignore[method-assign]

        workers = ("data.cache=none", "data.num_workers=2")
        ended = fit(tmp_path, tmp_path / "run", *workers, prepare=raising).wait(40)
        one_line(ended, 3, "LocalError while an image was prepared: strange")


class TestI:
    """Signals."""

    def test_a_second_ctrl_c_ends_at_once_and_the_files_stay_valid(self, tmp_path: Path) -> None:
        def slowly() -> None:
            from vtrain.engine.trainer import Trainer

            real = Trainer.train_step

            def train_step(self: Trainer, *arguments: Any) -> Any:
                if self.state.step == 5:
                    Path("waiting").touch()
                    time.sleep(60)
                return real(self, *arguments)

            Trainer.train_step = train_step  # type: ignore[method-assign]

        command = fit(tmp_path, tmp_path / "run", prepare=slowly)
        command.until((tmp_path / "waiting").exists)
        command.send(signal.SIGINT)
        time.sleep(0.1)
        assert command.alive()
        command.send(signal.SIGINT)
        ended = command.wait(10)
        assert ended.code == 130
        assert "Traceback" not in ended.err
        assert [found.problem for found in verify(tmp_path / "run")] == [None] * 2
        assert RunFolder(tmp_path / "run").read_status()["state"] in ("stopped", "failed")
        assert fit(tmp_path, tmp_path / "run").wait().code == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_a_signal_during_an_evaluation_or_a_save_is_a_stop(
        self, tmp_path: Path, number: int
    ) -> None:
        def signalling() -> None:
            from vtrain.run.build.parts import Parts

            real = Parts.evaluate

            def evaluate(self: Parts) -> Any:
                os.kill(os.getpid(), number)
                return real(self)

            Parts.evaluate = evaluate  # type: ignore[method-assign]

        ended = fit(tmp_path, tmp_path / "run", prepare=signalling).wait()
        assert ended.code == 128 + number, ended.err
        assert running.exact_stop(tmp_path / "run", number) is None
        assert fit(tmp_path, tmp_path / "run").wait().code == 0
        assert list(differences(reference(tmp_path), result(tmp_path / "run"))) == []

    def test_a_signal_before_training_leaves_nothing(self, tmp_path: Path) -> None:
        def signalled() -> None:
            import vtrain.run.fit

            def build_parts(*_: object, **__: object) -> None:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)

            vtrain.run.fit.build_parts = build_parts  # type: ignore[assignment]

        ended = fit(tmp_path, tmp_path / "run", prepare=signalled).wait(20)
        assert ended.code == 143
        assert newest_step(tmp_path / "run") == -1
        assert fit(tmp_path, tmp_path / "run", *SHORT).wait().code == 0

    def test_ctrl_c_is_one_line_however_many_workers_there_are(self, tmp_path: Path) -> None:
        more = ("data.cache=none", "data.num_workers=2")
        command = fit(tmp_path, tmp_path / "run", *more)
        running.saved(command, tmp_path / "run")
        os.killpg(command.pid, signal.SIGINT)  # a terminal signals the whole group
        ended = command.wait(30)
        assert ended.code in (0, 130), ended.err
        assert len(ended.errors) <= 1
        assert "Traceback" not in ended.err

    @pytest.mark.dist
    @pytest.mark.slow
    def test_torchrun_passes_a_stop_on_and_the_step_is_saved(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", "-m", "vtrain", "fit", str(fault_config(tmp_path))]
        command += ["--run-dir", str(run_dir), "train.epochs=1000"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as launcher:
            deadline = time.monotonic() + 120
            while newest_step(run_dir) < 4:
                assert launcher.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            launcher.send_signal(signal.SIGTERM)
            launcher.wait(30)
        assert running.exact_stop(run_dir, signal.SIGTERM) is None
        with RunLock(run_dir):  # no worker is left
            pass


class TestH:
    """Numbers."""

    @pytest.mark.parametrize("what", ["loss", "gradient"])
    def test_what_is_saved_is_from_before_the_numbers_went_wrong(
        self, tmp_path: Path, what: str
    ) -> None:
        def poisoned() -> None:
            from vtrain.engine.step import OptimizerStep

            real = OptimizerStep.backward

            def backward(self: OptimizerStep, *arguments: Any) -> Any:
                loss = real(self, *arguments)
                for parameter in self.state.model.parameters():
                    if self.state.step == 8 and (what == "loss" or parameter.dim() == 4):
                        parameter.grad.fill_(float("nan"))  # type: ignore[union-attr]
                return loss * float("nan") if (self.state.step, what) == (8, "loss") else loss

            OptimizerStep.backward = backward  # type: ignore[method-assign]

        run_dir = tmp_path / "run"
        seldom = "logging.every_steps=50"  # so that saves come between two rows
        ended = fit(tmp_path, run_dir, seldom, prepare=poisoned).wait()
        one_line(ended, 7, "step 9")
        assert newest_step(run_dir) == 8
        for name in ("last.pt", "best.pt"):
            state = load_checkpoint(run_dir / name)["state"]
            for weights in (state["model"], state["ema"]["weights"]):
                assert all(torch.isfinite(tensor).all() for tensor in weights.values())
        assert fit(tmp_path, run_dir, seldom).wait().code == 0
        assert list(differences(reference(tmp_path, seldom), result(run_dir))) == []

    @pytest.mark.dist
    def test_numbers_that_go_wrong_on_one_rank_stop_all_at_the_same_step(
        self, tmp_path: Path
    ) -> None:
        def poisoned(rank: int) -> None:
            from vtrain.data.augment.mixing import Mixing

            real, calls = Mixing.apply, iter(range(100))

            def mixed(self: Mixing, images: torch.Tensor, *more: Any, **options: Any) -> Any:
                if (next(calls), rank) == (8, 1):
                    images = images * float("nan")
                return real(self, images, *more, **options)

            Mixing.apply = mixed  # type: ignore[method-assign]

        run_dir = tmp_path / "run"
        ended = [c.wait(60) for c in running.together(tmp_path, run_dir, 2, prepare=poisoned)]
        assert [end.code for end in ended] == [7, 7], ended
        for end in ended:
            one_line(end, 7, "step 9")
        assert newest_step(run_dir) == 8
        assert [found for found in verify(run_dir) if found.problem] == []
        assert fit(tmp_path, run_dir).wait().code == 0


class TestJ:
    """Several processes."""

    @pytest.mark.dist
    @pytest.mark.parametrize(
        ("what", "code", "says"),
        [
            (lambda: os.kill(os.getpid(), signal.SIGKILL), 137, "another process"),
            (lambda: os._exit(0), 0, "another process"),
            (lambda: 1 / 0, 1, "rank 1 failed: ZeroDivisionError"),
        ],
        ids=["killed", "exits", "raises"],
    )
    def test_a_rank_that_ends_in_a_step_ends_the_others_and_a_resume_goes_on(
        self, tmp_path: Path, what: Callable[[], object], code: int, says: str
    ) -> None:
        run_dir = tmp_path / "run"
        commands = running.together(
            tmp_path, run_dir, 2, prepare=lambda rank: rank and at_step(9, what)
        )
        ended = [command.wait(60) for command in commands]
        assert ended[1].code == code, ended[1].err
        one_line(ended[0], 8, says)
        assert RunFolder(run_dir).read_status()["code"] == 8
        assert [found for found in verify(run_dir) if found.problem] == []
        assert newest_step(run_dir) == 8
        assert fit(tmp_path, run_dir).wait().code == 0

    @pytest.mark.dist
    def test_a_signal_while_a_peer_hangs_ends_after_the_timeout(self, tmp_path: Path) -> None:
        def impatient(rank: int) -> None:
            from vtrain.callbacks import stopping

            stopping.PEER_SECONDS = 2
            if rank:
                at_step(9, lambda: os.kill(os.getpid(), signal.SIGSTOP))
            else:
                at_step(9, lambda: os.kill(os.getpid(), signal.SIGTERM))

        run_dir = tmp_path / "run"
        commands = running.together(tmp_path, run_dir, 2, prepare=impatient)
        try:
            one_line(commands[0].wait(30), 8, "another process")
        finally:
            commands[1].kill()
        assert [found for found in verify(run_dir) if found.problem] == []
        assert newest_step(run_dir) == 8
        assert fit(tmp_path, run_dir).wait().code == 0

    @pytest.mark.dist
    def test_ranks_with_other_configs_are_refused_by_all(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"

        def other(rank: int) -> None:
            if rank:
                os.environ["HOME"] = str(tmp_path)  # what differs is how ~ is read
                (tmp_path / "photos").mkdir()

        planted(tmp_path / "one" / "photos", 4)
        data = "data={name: image_folder, root: ~/photos, image_size: 8, val_fraction: 0.5}"
        os.environ["HOME"], home = str(tmp_path / "one"), os.environ["HOME"]
        try:
            commands = running.together(tmp_path, run_dir, 2, data, prepare=other)
        finally:
            os.environ["HOME"] = home
        ended = [command.wait(60) for command in commands]
        assert [end.code for end in ended] == [2, 2], ended
        assert "the processes differ in config: rank 1 from rank 0" in ended[0].errors[0]
        assert newest_step(run_dir) == -1

    def test_a_wrong_environment_is_exit_code_2_and_names_the_variable(
        self, tmp_path: Path
    ) -> None:
        right = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
        right |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
        for change, says in (
            ({"MASTER_ADDR": ""}, "MASTER_ADDR"),
            ({"RANK": "2"}, "RANK (2) must be in 0 .. WORLD_SIZE - 1 (1)"),
            ({"WORLD_SIZE": "two"}, "'two'"),
        ):
            prepare = partial(os.environ.update, {**right, **change})
            ended = fit(tmp_path, tmp_path / "run", prepare=prepare).wait(20)
            one_line(ended, 2, says)
            assert newest_step(tmp_path / "run") == -1

    def test_more_processes_than_gpus_is_exit_code_6(self, tmp_path: Path) -> None:
        def two_gpus() -> None:
            torch.cuda.is_available = lambda: True
            torch.cuda.device_count = lambda: 2  # type: ignore[assignment]
            os.environ.update(WORLD_SIZE="3", RANK="2", LOCAL_RANK="2")
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29500")

        more = ("train.device=cuda",)
        ended = fit(tmp_path, tmp_path / "run", *more, prepare=two_gpus).wait(20)
        one_line(ended, 6, "2 ")

    @pytest.mark.dist
    def test_ranks_started_in_a_locked_folder_all_end(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        with RunLock(run_dir):
            ended = [command.wait(60) for command in running.together(tmp_path, run_dir, 2)]
        assert ended[0].code == 5
        assert ended[1].code != 0
        assert not any("Traceback" in end.err for end in ended)

    @pytest.mark.dist
    def test_ranks_started_on_a_finished_run_all_end(self, tmp_path: Path) -> None:
        reference(tmp_path)
        commands = running.together(tmp_path, tmp_path / "reference", 2)
        assert [command.wait(60).code for command in commands] == [0, 0]


def out_of_memory_at(step: int) -> None:
    """Let the device have no memory left in one training step, as a GPU would say."""
    from vtrain.engine.step import OptimizerStep

    real = OptimizerStep.backward

    def backward(self: OptimizerStep, *arguments: Any) -> Any:
        if self.state.step == step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return real(self, *arguments)

    OptimizerStep.backward = backward  # type: ignore[method-assign]


class TestK:
    """Devices and environment."""

    def test_without_a_home_and_a_temporary_folder_a_run_needs_neither(
        self, tmp_path: Path
    ) -> None:
        def bare() -> None:
            os.environ.clear()
            os.environ.update(TMPDIR="/nowhere", TEMP="/nowhere")

        run_dir = tmp_path / "run"
        more = (*SHORT, "data.cache=none", "data.num_workers=1")
        ended = fit(tmp_path, run_dir, *more, prepare=bare).wait()
        assert ended.code == 0, ended.err
        assert run(tmp_path, "eval", "--ckpt", run_dir, prepare=bare).code == 0

    @needs_mounts
    def test_data_workers_without_dev_shm_are_refused_in_one_line(self, tmp_path: Path) -> None:
        more = (*SHORT, "data.cache=none", "data.num_workers=1")
        no_shm = mounts.read_only(Path("/dev/shm"))
        ended = fit(tmp_path, tmp_path / "run", *more, prepare=no_shm).wait()
        one_line(ended, 8, "data workers cannot start", "data.num_workers=0", "/dev/shm")

    def test_no_memory_in_the_first_step_names_the_batch_and_leaves_nothing(
        self, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / "run"
        ended = fit(tmp_path, run_dir, prepare=partial(out_of_memory_at, 0)).wait()
        one_line(ended, 6, "out of memory at train.batch_size 8", "train.accum_steps=2")
        assert newest_step(run_dir) == -1
        assert RunFolder(run_dir).read_status()["code"] == 6
        assert fit(tmp_path, run_dir, *SHORT).wait().code == 0

    def test_no_memory_later_leaves_the_last_checkpoint_and_the_run_goes_on(
        self, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / "run"
        ended = fit(tmp_path, run_dir, prepare=partial(out_of_memory_at, 9)).wait()
        one_line(ended, 6, "out of memory at train.batch_size 8")
        assert [found.problem for found in verify(run_dir)] == [None] * len(verify(run_dir))
        assert newest_step(run_dir) == 8
        assert fit(tmp_path, run_dir).wait().code == 0
        assert list(differences(reference(tmp_path), result(run_dir))) == []

    @pytest.mark.dist
    def test_no_memory_on_one_rank_ends_all_and_the_run_goes_on(self, tmp_path: Path) -> None:
        run_dir = tmp_path / "run"
        commands = running.together(
            tmp_path, run_dir, 2, prepare=lambda rank: out_of_memory_at(9) if rank == 1 else None
        )
        ended = [command.wait(60) for command in commands]
        assert ended[1].code == 6, ended[1].err
        assert ended[0].code in (6, 8), ended[0].err
        assert not any("Traceback" in end.err for end in ended)
        assert newest_step(run_dir) == 8
        assert [found for found in verify(run_dir) if found.problem] == []
        assert fit(tmp_path, run_dir).wait().code == 0

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            *((name, 2) for name in ("cud", "cuda:x", "cuda:-1", "cpu:1", "meta", "", "mps")),
            *((name, 6) for name in ("cuda", "cuda:99")),
        ],
    )
    def test_a_device_that_is_none_is_one_line_and_never_the_cpu(
        self, tmp_path: Path, name: str, code: int
    ) -> None:
        if code == 6 and torch.cuda.is_available():
            pytest.skip("there is a GPU here")
        ended = fit(tmp_path, tmp_path / "run", f"train.device={name}").wait()
        one_line(ended, code, "train.device")
        assert not (tmp_path / "run" / "last.pt").exists()

    def test_modules_in_the_current_folder_are_not_imported(self, tmp_path: Path) -> None:
        for name in ("yaml", "types", "torch", "numpy"):
            (tmp_path / f"{name}.py").write_text("open('canary', 'w')")
        console_script = Path(sys.executable).parent / "vtrain"
        if not console_script.exists():
            pytest.skip("vtrain is not installed here")
        command = [console_script, "models", "vit_ti"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0
        assert not (tmp_path / "canary").exists()


class TestL:
    """What goes to stdout, and what images are asked for."""

    def test_json_is_all_that_goes_to_stdout_also_after_an_error(self, trained: Path) -> None:
        folder = trained.parent
        Image.new("RGB", (9, 9), "red").save(folder / "good.png")
        (folder / "bad.png").write_text("no image")
        names = ("good.png", "bad.png")
        ended = run(folder, "predict", *names, "--ckpt", trained, "--format", "json")
        one_line(ended, 3, "bad.png")
        good, bad = json.loads(ended.out)
        assert len(good["predictions"]) == 4
        assert bad["error"]
        metrics = run(folder, "eval", "--ckpt", trained, "--json")
        assert metrics.code == 0
        assert 0 <= json.loads(metrics.out)["val/top1"] <= 1

    def test_what_is_no_image_file_is_one_line_and_no_wait(self, trained: Path) -> None:
        folder = trained.parent
        os.mkfifo(folder / "pipe.png")
        wrong = {
            "nowhere.png": (3, "nowhere.png"),
            "/dev/zero": (3, "/dev/zero"),
            "pipe.png": (3, "pipe.png"),
            "https://example.org/x.png": (2, "https"),
        }
        for name, (code, says) in wrong.items():
            command = Command(folder, "predict", name, "--ckpt", trained)
            one_line(command.wait(20), code, says)
