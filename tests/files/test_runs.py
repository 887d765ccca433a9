"""Run folders: their names, their newest, and what may be read from them."""

import subprocess
from pathlib import Path

import pytest

from tests.harness import Vtrain
from vtrain.errors import CheckpointError, ConfigError, StorageError
from vtrain.files.runs import RunFolder, checkpoint_of

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


def test_the_newest_is_by_name_and_state_and_only_of_started_runs(tmp_path: Path) -> None:
    begun(tmp_path / "a" / "2025-01-01", "finished")
    newest = begun(tmp_path / "b" / "2025-01-03", "finished")
    killed = begun(tmp_path / "b" / "2025-01-02", None)  # it never came to write how it ended
    (tmp_path / "b" / "2025-01-04").mkdir()
    found = RunFolder.newest(finished=True, root=tmp_path)
    assert found == RunFolder(newest)
    assert found.is_finished
    assert found.read_status() == {"state": "finished", "code": 0}
    assert RunFolder.newest(finished=False, root=tmp_path) == RunFolder(killed)
    assert RunFolder.newest(finished=False, name="a", root=tmp_path) is None
    assert RunFolder.newest(finished=True, root=tmp_path / "absent") is None


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
