"""Run folders: their names, their newest, and what may be read from them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import Vtrain
from vtrain.errors import CheckpointError, ConfigError, StorageError
from vtrain.files.runs import Beginning, RunFolder, checkpoint_of

CONTRACT = {
    "config": "config.yaml",
    "metrics": "metrics.jsonl",
    "last": "last.pt",
    "best": "best.pt",
    "manifest": "checkpoints.json",
    "summary": "summary.json",
    "status": "status.json",
    "environment": "env.json",
    "predictions": "predictions.npz",
    "log": "vtrain.log",
    "tensorboard": "tensorboard",
    "lock": ".lock",
}
"""Outside programs rely on these names."""


@pytest.mark.parametrize(("attribute", "name"), CONTRACT.items())
def test_the_files_of_a_run_have_the_names_of_the_contract(attribute: str, name: str) -> None:
    assert getattr(RunFolder(Path("run")), attribute) == Path("run", name)
    assert getattr(RunFolder, attribute) == Path(name)


def test_a_run_leaves_these_files_and_checkpoints_and_no_other(
    small_run: Path, vtrain: Vtrain
) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "logging.tensorboard=true").code == 0
    names = {path.name for path in Path("run").iterdir() if not path.match("step-*.pt")}
    assert names == set(CONTRACT.values())


def test_no_other_module_spells_a_name() -> None:
    quoted = [f'"{name}"' for name in CONTRACT.values() if name != "tensorboard"]
    pattern = [part for name in quoted for part in ("-e", name)]
    found = subprocess.run(
        ["grep", "-rlF", *pattern, "vtrain", "--include=*.py"], capture_output=True, text=True
    )
    assert found.stdout.split() == ["vtrain/files/runs.py"]


def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    paths = {RunFolder.new("small", tmp_path).path for _ in range(3)}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path / "small"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "small").touch()
    with pytest.raises(StorageError, match="small"):
        RunFolder.new("small", tmp_path)


def begun(path: Path, state: str | None) -> Path:
    """Make a run folder as a run in this state would leave it."""
    path.mkdir(parents=True)
    RunFolder(path).config.touch()
    if state is not None:
        RunFolder(path).write_status(state, code=0)
    return path


def test_the_newest_is_by_time_and_state_and_only_of_started_runs(tmp_path: Path) -> None:
    begun(tmp_path / "b" / "zzz", "finished")
    newest = begun(tmp_path / "a" / "aaa", "finished")
    killed = begun(tmp_path / "b" / "2025-01-02", None)  # it never came to write how it ended
    (tmp_path / "b" / "2025-01-04").mkdir()
    found = RunFolder.newest(finished=True, root=tmp_path)
    assert found == RunFolder(newest)
    assert found.is_finished
    assert found.read_status().keys() == {"state", "code", "time"}
    assert RunFolder.newest(finished=False, root=tmp_path) == RunFolder(killed)
    assert RunFolder.newest(finished=False, name="a", root=tmp_path) is None
    assert RunFolder.newest(finished=True, root=tmp_path / "absent") is None


@pytest.mark.parametrize("place", ["exp", "vit/exp", "of me/vit/exp", "sweep/vit/lr=0.1/trial 3"])
def test_a_run_is_seen_at_any_usual_depth_and_through_links(tmp_path: Path, place: str) -> None:
    begun(tmp_path / "runs" / "vit" / "2030-01-01", "finished")
    begun(tmp_path / "disk" / "exp", "finished")
    path = tmp_path / "runs" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / "disk" / "exp")
    assert RunFolder.newest(finished=True, root=tmp_path / "runs") == RunFolder(path)


def test_a_run_within_a_run_is_one_and_event_files_are_none(tmp_path: Path) -> None:
    begun(tmp_path / "vit", "finished")
    inner = begun(tmp_path / "vit" / "fold_0", "finished")
    begun(tmp_path / "vit" / "tensorboard", "finished")
    begun(tmp_path / "vit" / ".cache", "finished")
    assert RunFolder.newest(finished=True, root=tmp_path) == RunFolder(inner)


def test_a_copy_has_the_time_of_what_it_copies(tmp_path: Path) -> None:
    old = begun(tmp_path / "vit" / "old", "finished")
    newest = begun(tmp_path / "vit" / "newest", "finished")
    shutil.copytree(old, tmp_path / "vit" / "copy", copy_function=shutil.copyfile)
    assert RunFolder.newest(finished=True, root=tmp_path) == RunFolder(newest)


@pytest.mark.parametrize("time", ["", '"yesterday"', "7"])
def test_a_run_without_a_recorded_time_has_that_of_its_file(tmp_path: Path, time: str) -> None:
    run = RunFolder(begun(tmp_path / "run", None))
    run.status.write_text(f'{{"state": "finished", "time": {time}}}' if time else "{}")
    os.utime(run.status, (1e9, 1e9))
    assert run.time == 1e9


def test_a_run_is_called_after_its_config_wherever_it_lies(tmp_path: Path) -> None:
    given = RunFolder(begun(tmp_path / "elsewhere", None))
    given.environment.write_text('{"name": "vit"}')
    old = RunFolder(begun(tmp_path / "vit" / "2025-01-01", None))  # before the name was recorded
    assert [given.name, old.name] == ["vit", "vit"]
    found = RunFolder.newest(finished=False, name="vit", root=tmp_path)
    assert found in (given, old)


def test_what_a_failed_beginning_made_goes_again_and_nothing_else(tmp_path: Path) -> None:
    def fail(folder: Path, *files: str) -> None:
        beginning = Beginning(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("vtrain.log", ".lock", *files):
            (folder / name).touch()
        with pytest.raises(ValueError, match="why"), beginning.undone_on_failure():
            raise ValueError("why")

    fail(tmp_path / "runs" / "vit" / "2025-01-01")
    assert list(tmp_path.iterdir()) == []
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    (mine / "vtrain.log").write_text("of before")
    fail(mine)
    assert {path.name for path in mine.iterdir()} == {"notes.txt", "vtrain.log"}
    assert (mine / "vtrain.log").read_text() == "of before"
    fail(tmp_path / "begun", "config.yaml")  # it came to its first step
    assert (tmp_path / "begun" / "vtrain.log").exists()


def test_what_a_run_wrote_before_its_first_step_goes_if_it_is_over(tmp_path: Path) -> None:
    beginning = Beginning(tmp_path / "a" / "run")
    (tmp_path / "a" / "run" / "tensorboard").mkdir(parents=True)
    for name in ("config.yaml", "env.json", "status.json", "metrics.jsonl", "tensorboard/events"):
        (tmp_path / "a" / "run" / name).touch()
    beginning.undo()
    assert (tmp_path / "a" / "run" / "config.yaml").exists()
    beginning.is_over = True
    beginning.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff"])
def test_a_damaged_status_is_unknown_and_no_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_bytes(text.encode(errors="surrogateescape"))
    assert RunFolder(tmp_path).read_status() == {}
    assert not RunFolder(tmp_path).is_finished


def test_the_checkpoint_of_a_folder_is_its_best_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in this folder"):
        checkpoint_of(tmp_path)
    (tmp_path / "last.pt").touch()
    assert checkpoint_of(tmp_path) == tmp_path / "last.pt"
    (tmp_path / "best.pt").touch()
    assert checkpoint_of(tmp_path) == tmp_path / "best.pt"
    assert checkpoint_of(tmp_path / "other.pt") == tmp_path / "other.pt"


def test_an_address_on_the_web_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only local checkpoints"):
        checkpoint_of(Path("https://example.org/best.pt"))
