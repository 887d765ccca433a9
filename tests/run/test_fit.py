"""What a run folder promises across restarts."""

import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import over_photographs
from tests.harness import Vtrain, interrupt, run
from vtrain.data.loading.workers import naming_lost_workers
from vtrain.errors import WorkerError
from vtrain.files.lock import RunLock
from vtrain.files.runs import RunFolder


@pytest.fixture
def photos(small_run: Path) -> Path:
    """The config of a small run over files of its own."""
    for split in ("train", "val"):
        for number in range(8):
            path = Path("photos", split, f"class_{number % 2}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(path)
    small_run.write_text(over_photographs(small_run.read_text()))
    return small_run


def interrupted(config: Path, vtrain: Vtrain) -> None:
    """Leave a run that has not finished."""
    assert vtrain("fit", config, "--run-dir", "run", "train.max_steps=1").code == 0
    interrupt("run")


def test_a_run_goes_on_with_the_images_it_began_with(photos: Path, vtrain: Vtrain) -> None:
    interrupted(photos, vtrain)
    more = Path("photos/train/class_0/more.png")
    Image.new("RGB", (16, 16)).save(more)
    done = vtrain("fit", photos, "--run-dir", "run", "--resume")
    assert done.code == 3
    assert "the images are not those the run began with: train: 8 then, 9 now" in done.err
    more.unlink()
    assert vtrain("fit", photos, "--run-dir", "run", "--resume").code == 0
    assert json.loads(Path("run/status.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    "override", ["train.accum_steps=3", "train.eval_batch_size=5", "train.parallel=fsdp"]
)
def test_what_changes_only_memory_may_change_at_a_restart(
    small_run: Path, vtrain: Vtrain, override: str
) -> None:
    interrupted(small_run, vtrain)
    done = vtrain("fit", small_run, "--run-dir", "run", "--resume", override)
    assert done.code == 0, done.err


def test_a_restart_on_other_versions_goes_on_and_says_so(photos: Path, vtrain: Vtrain) -> None:
    interrupted(photos, vtrain)
    path = Path("run/env.json")
    now = json.loads(path.read_text())
    command = ("fit", photos, "--run-dir", "run", "--resume", "train.max_steps=2")
    path.write_text(json.dumps({**now, "torch": "2.0.0", "processes": 4}))
    done = vtrain(*command)
    assert done.code == 0
    said = f"torch 2.0.0 -> {now['torch']}; processes 4 -> 1"
    assert f"changed since the last start, and so may the last bits: {said}" in done.err
    assert json.loads(path.read_text()) == {**now, "command": ["vtrain", *map(str, command)]}
    interrupt("run")
    assert "changed since" not in vtrain(*command, "train.max_steps=3").err


@pytest.mark.parametrize("name", ["_choose_folder", "RunLock"])
@pytest.mark.parametrize("more", [(), ("--run-dir", "a/run")])
def test_a_signal_while_the_folder_is_made_leaves_none(
    small_run: Path, name: str, more: tuple[str, ...]
) -> None:
    from vtrain.run import fit

    def prepare() -> None:
        make = getattr(fit, name)

        def make_and_interrupt(*arguments: object) -> object:
            made = make(*arguments)
            os.kill(os.getpid(), signal.SIGINT)
            return made

        setattr(fit, name, make_and_interrupt)  # in the fork alone

    before = {path.name for path in Path().iterdir()}
    done = run(Path(), "fit", small_run, *more, prepare=prepare)
    assert done.code == 130
    assert done.errors == ["vtrain: stopped at once; what was saved before is intact"]
    assert {p.name for p in Path().iterdir() if not p.name.endswith((".out", ".err"))} == before


def test_a_second_lost_worker_does_not_break_the_report_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = RuntimeError("DataLoader worker (pid 2) is killed by signal: Killed. ")
    pending = [lost, lost]
    silenced = []

    def change(number: int, handler: object) -> None:  # Python runs what is pending before it
        if pending:
            raise pending.pop()
        silenced.append((number, handler))

    monkeypatch.setattr("vtrain.data.loading.workers.signal.signal", change)
    with pytest.raises(WorkerError, match=r"killed by a signal \(Killed\)"), naming_lost_workers():
        raise lost
    assert silenced == [(signal.SIGCHLD, signal.SIG_DFL)]


def test_a_run_that_ends_while_another_command_starts_is_not_begun_again(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(small_run, vtrain)

    class LastMoment(RunLock):
        def __init__(self, folder: Path) -> None:
            (folder / "status.json").write_text('{"state": "finished"}')
            super().__init__(folder)

    monkeypatch.setattr("vtrain.run.fit.RunLock", LastMoment)
    again = vtrain("fit", small_run, "--run-dir", "run", "--resume", "train.max_steps=1")
    assert again.code == 0
    assert "already complete" in again.err


@pytest.mark.parametrize("place", [[], ["--run-dir", "run"], ["--run-dir", "mine"], ["--resume"]])
@pytest.mark.parametrize(
    "more", [[], ["data.cache=none", "data.num_workers=0"], ["data.cache=none"]], ids=str
)
def test_a_new_run_whose_first_images_cannot_be_read_leaves_nothing(
    photos: Path, vtrain: Vtrain, place: list[str], more: list[str]
) -> None:
    """Neither a run of its own nor a file in a folder that was there before."""
    for path in Path("photos/train").rglob("*.png"):
        path.write_bytes(b"x")
    Path("mine/tensorboard").mkdir(parents=True)
    for name in ("notes.txt", "status.json", "tensorboard/events.of.another"):
        Path("mine", name).write_text("mine")
    before = set(Path().rglob("*"))
    done = vtrain("fit", photos, "logging.tensorboard=true", *place, *more)
    assert done.code == 3
    assert "not a readable image" in done.err
    assert set(Path().rglob("*")) == before


def test_a_run_that_goes_on_and_fails_before_a_step_loses_nothing(
    photos: Path, vtrain: Vtrain
) -> None:
    assert vtrain("fit", photos, "--run-dir", "run", "train.max_steps=1").code == 0
    kept = {
        path: path.read_bytes()
        for path in Path("run").iterdir()
        if path.suffix in (".pt", ".jsonl", ".npz")
    }
    for path in Path("photos/train").rglob("*.png"):
        path.write_bytes(b"x")
    more = ("train.max_steps=null", "--accept-data-change")
    assert vtrain("fit", "run", "--resume", *more).code == 3
    assert {path: path.read_bytes() for path in kept} == kept
    assert Path("run/config.yaml").exists()
    assert RunFolder(Path("run")).read_status()["code"] == 3
