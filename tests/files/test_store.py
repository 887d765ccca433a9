"""The checkpoints of a run folder: what is kept, what is found after damage, and in which order."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import small_checkpoint
from vtrain.errors import CheckpointError, StorageError
from vtrain.files import atomic, manifest
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.container import load_checkpoint
from vtrain.files.store import CheckpointStore, order, verify


def filled(folder: Path, *steps: int, best: int | None = None) -> CheckpointStore:
    checkpoints = CheckpointStore(folder)
    for step in steps:
        checkpoints.save(small_checkpoint(step, is_best=step == best), step / 100)
    return checkpoints


def step_of(path: Path | None) -> int:
    assert path is not None
    step = Checkpoint.load(path).step
    assert type(step) is int
    return step


def steps(folder: Path) -> list[int]:
    return sorted(step_of(path) for path in folder.glob("step-*.pt"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def separate(path: Path) -> None:
    """Make a hard link a file of its own."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_a_new_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path).newest_valid() is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_save_makes_last_and_best(tmp_path: Path) -> None:
    filled(tmp_path, 7)
    assert step_of(tmp_path / "last.pt") == step_of(tmp_path / "best.pt") == 7


def test_best_stays_while_last_moves_on(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3, 4, 5, best=2)
    assert step_of(tmp_path / "last.pt") == 5
    assert step_of(tmp_path / "best.pt") == 2
    assert steps(tmp_path) == [2, 4, 5]


def test_until_there_is_a_best_one_best_is_the_last(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    assert step_of(tmp_path / "best.pt") == 2


def test_no_more_space_is_taken_than_the_kept_files_need(tmp_path: Path) -> None:
    filled(tmp_path, *range(1, 9), best=3)
    files = {path.stat().st_ino: path.stat().st_size for path in tmp_path.iterdir()}
    one = (tmp_path / "last.pt").stat().st_size
    assert sum(files.values()) < 3 * one + 2000  # best, the last two, and the manifest


def test_saving_twice_at_one_step_keeps_both_under_their_own_names(tmp_path: Path) -> None:
    checkpoints = CheckpointStore(tmp_path)
    first = checkpoints.save(small_checkpoint(5))
    second = checkpoints.save(small_checkpoint(5, metrics={"val/top1": 0.5}))
    assert first != second
    assert Checkpoint.load(first).metrics == {}
    assert checkpoints.newest_valid() == second
    assert Checkpoint.load(tmp_path / "last.pt").metrics == {"val/top1": 0.5}


def test_order_is_by_step_and_never_by_time(tmp_path: Path) -> None:
    filled(tmp_path, 9, 10)
    for number, path in enumerate(sorted(tmp_path.glob("step-*"), reverse=True)):
        os.utime(path, (number * 1000, number * 1000))
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 10
    assert order("step-00000010.pt") > order("step-00000009-2.pt") > order("step-00000009.pt")
    assert order("step-123456789.pt") > order("step-99999999.pt")


def test_a_damaged_newest_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, 1, 2, 3)
    damage(tmp_path / "step-00000003.pt")
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 2
    assert "skipped" in caplog.text
    assert "step-00000003.pt" in caplog.text
    assert (tmp_path / "step-00000003.pt.corrupt").exists()
    assert step_of(tmp_path / "last.pt") == step_of(tmp_path / "best.pt") == 2


def test_a_lost_best_is_told_and_replaced_by_the_newest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, 1, 2, 3, best=1)
    (tmp_path / "step-00000001.pt").unlink()
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 3
    assert step_of(tmp_path / "best.pt") == 3
    assert "the best checkpoint, step-00000001.pt, is lost" in caplog.text


def test_after_a_fallback_the_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3, best=1)
    damage(tmp_path / "step-00000003.pt")
    checkpoints = CheckpointStore(tmp_path)
    checkpoints.newest_valid()
    checkpoints.save(small_checkpoint(3))
    assert steps(tmp_path) == [1, 2, 3]
    assert [found.problem for found in verify(tmp_path)] == [None, None, None]


def test_last_saves_the_run_if_its_twin_is_damaged(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    separate(tmp_path / "last.pt")
    damage(tmp_path / "step-00000001.pt")
    path = CheckpointStore(tmp_path).newest_valid()
    assert path == tmp_path / "last.pt"
    assert step_of(path) == 1


def test_after_only_last_was_left_saving_begins_anew(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, best=1)
    separate(tmp_path / "last.pt")
    for step in (1, 2):
        damage(tmp_path / f"step-0000000{step}.pt")
    checkpoints = CheckpointStore(tmp_path)
    assert step_of(checkpoints.newest_valid()) == 2
    checkpoints.save(small_checkpoint(3))
    assert step_of(tmp_path / "last.pt") == step_of(tmp_path / "best.pt") == 3
    assert [found.problem for found in verify(tmp_path)] == [None]


def test_a_folder_with_nothing_but_last_can_go_on(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "last.pt", other)
    checkpoints = CheckpointStore(other)
    assert step_of(checkpoints.newest_valid()) == 4
    checkpoints.save(small_checkpoint(5))
    assert step_of(other / "last.pt") == 5


def test_if_all_are_damaged_nothing_starts_anew(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        if path.exists():
            damage(path)
    for path in tmp_path.glob("step-*.pt"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints is intact"):
        CheckpointStore(tmp_path).newest_valid()
    with pytest.raises(CheckpointError):  # the second attempt as well
        CheckpointStore(tmp_path).newest_valid()
    assert len(list(tmp_path.glob("*.corrupt"))) >= 2


def test_if_all_were_deleted_nothing_starts_anew(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    for path in tmp_path.glob("*.pt"):
        path.unlink()
    with pytest.raises(CheckpointError, match="none of 2"):
        CheckpointStore(tmp_path).newest_valid()


def test_a_checkpoint_of_a_newer_vtrain_is_not_fallen_back_from(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    torch.save({"format": 99, "model": {}}, tmp_path / "step-00000002.pt")
    with pytest.raises(CheckpointError, match="made by a newer vtrain"):
        CheckpointStore(tmp_path).newest_valid()
    assert (tmp_path / "step-00000002.pt").exists()


class Killed(BaseException):
    """The process ends here."""


def saved_up_to(folder: Path, calls: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save step 3, but die before the change number `calls` to the folder; tell whether it did."""
    done = 0

    def counted(function: Any) -> Any:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            if done == calls:
                raise Killed
            done += 1
            return function(*arguments, **options)

        return change

    with monkeypatch.context() as patched:
        for name in ("replace", "link", "unlink", "rename"):
            patched.setattr(os, name, counted(getattr(os, name)))
        try:
            filled(folder, 3, best=3)
        except Killed:
            return True
    return False


def test_killed_between_any_two_changes_the_newest_is_found_and_the_next_save_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in range(100):
        folder = tmp_path / str(calls)
        folder.mkdir()
        filled(folder, 1, 2, best=1)
        killed = saved_up_to(folder, calls, monkeypatch)
        assert step_of(folder / "last.pt") in (2, 3)
        assert step_of(folder / "best.pt") in (1, 3)
        assert all(found.problem is None for found in verify(folder))
        checkpoints = CheckpointStore(folder)
        step = step_of(checkpoints.newest_valid())
        assert step in (2, 3)
        assert step_of(folder / "last.pt") == step
        assert step_of(folder / "best.pt") == (3 if step == 3 else 1)
        checkpoints.save(small_checkpoint(4))
        checkpoints.save(small_checkpoint(5, is_best=True), 0.9)
        checkpoints.save(small_checkpoint(6))
        assert steps(folder) == [5, 6]
        assert not list(folder.glob(f"{atomic.PREFIX}*"))
        if not killed:
            assert calls > 8
            return
    raise AssertionError("the save never came to its end")


def test_only_files_of_the_manifest_are_ever_removed(tmp_path: Path) -> None:
    mine = ["step-00000000-mine.pt", "step-1.pt", "notes.txt", "other.pt"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    filled(tmp_path, *range(1, 8))
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


def test_what_cannot_be_removed_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("step-"):
            raise OSError(errno.EBUSY, "busy")
        real(path, missing_ok)

    checkpoints = filled(tmp_path, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        checkpoints.save(small_checkpoint(3))
    assert "cannot remove an old checkpoint" in caplog.text
    assert steps(tmp_path) == [1, 2, 3]
    checkpoints.save(small_checkpoint(4))
    assert steps(tmp_path) == [3, 4]


def test_if_space_is_short_old_ones_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    generous = CheckpointStore(tmp_path, keep=5)
    generous.save(small_checkpoint(3))
    checkpoints = CheckpointStore(tmp_path, keep=2)  # has three to keep two of
    real, full = atomic.replacing, [True]

    def replacing(path: Path, **options: Any) -> Any:
        if path.name.startswith("step-") and full.pop():
            full.append(False)
            raise StorageError("no space")
        return real(path, **options)

    monkeypatch.setattr(atomic, "replacing", replacing)
    checkpoints.save(small_checkpoint(4))
    assert steps(tmp_path) == [3, 4]


def test_without_space_every_earlier_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space")

    checkpoints = filled(tmp_path, 1, 2, 3, best=1)
    monkeypatch.setattr(atomic, "replacing", full)
    with pytest.raises(StorageError, match="no space"):
        checkpoints.save(small_checkpoint(4))
    assert steps(tmp_path) == [1, 2, 3]
    assert step_of(tmp_path / "last.pt") == 3


def test_a_folder_that_vanished_is_made_again_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoints = filled(folder, 1, 2)
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match="vanished"):
        checkpoints.save(small_checkpoint(3))
    assert step_of(folder / "last.pt") == 3
    assert step_of(CheckpointStore(folder).newest_valid()) == 3


def test_leftovers_of_killed_processes_are_swept_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, 1)
    for number in range(20):
        (tmp_path / f"{atomic.PREFIX}{number}{atomic.SUFFIX}").touch()
    with caplog.at_level(logging.INFO):
        CheckpointStore(tmp_path)
    assert "removed 20 unfinished files" in caplog.text
    assert not list(tmp_path.glob(f"{atomic.PREFIX}*"))


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_is_never_the_best(tmp_path: Path, metric: float) -> None:
    checkpoints = filled(tmp_path, 1, best=1)
    checkpoints.save(small_checkpoint(2), metric)
    assert step_of(tmp_path / "best.pt") == 1
    with pytest.raises(AssertionError):
        checkpoints.save(small_checkpoint(3, is_best=True), metric)


def test_a_planted_link_at_last_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.pt").symlink_to(precious)
    (run / "best.pt").symlink_to("step-00000001.pt")
    filled(run, 1)
    assert precious.read_text() == "mine"
    assert not (run / "last.pt").is_symlink()
    assert not (run / "best.pt").is_symlink()


def test_where_there_are_no_hard_links_last_and_best_are_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    filled(tmp_path, 1, 2, best=1)
    assert step_of(tmp_path / "last.pt") == 2
    assert step_of(tmp_path / "best.pt") == 1


def test_a_damaged_manifest_stops_with_its_name(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    (tmp_path / manifest.NAME).write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest is damaged.*checkpoints\.json"):
        CheckpointStore(tmp_path)


def test_without_its_manifest_a_folder_goes_by_the_files(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3)
    (tmp_path / manifest.NAME).unlink()
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 3


def test_another_checkpoint_under_the_same_name_is_found_by_its_checksum(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2)
    shutil.copy(tmp_path / "step-00000001.pt", tmp_path / "step-00000002.pt")
    separate(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="is not the one that was written"):
        load_checkpoint(tmp_path / "step-00000002.pt")
    (tmp_path / "last.pt").unlink()
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 1


def test_verifying_tells_what_is_intact_and_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 1, 2, 3, best=1)
    damage(tmp_path / "step-00000003.pt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found = verify(tmp_path)
    assert [(f.step, f.problem is None) for f in found] == [(3, False), (2, True), (1, True)]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_file_can_be_verified(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    (found,) = verify(tmp_path / "last.pt")
    assert found.step is None
    rows = json.loads((tmp_path / manifest.NAME).read_text())["checkpoints"]
    assert (found.size, found.sha256) == (rows[0]["size"], rows[0]["sha256"])


def test_a_folder_without_checkpoints_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        verify(tmp_path)


@pytest.mark.parametrize("copied", [False, True])
def test_checkpoints_of_a_divergence_are_set_aside_and_never_found_again(
    tmp_path: Path, copied: bool
) -> None:
    filled(tmp_path, 2, 4, 6, best=4)
    if copied:  # a copy of the folder has no hard links
        separate(tmp_path / "last.pt")
        separate(tmp_path / "best.pt")
    assert step_of(CheckpointStore(tmp_path).newest_valid(useless_since=5)) == 4
    assert step_of(tmp_path / "last.pt") == step_of(tmp_path / "best.pt") == 4
    assert (tmp_path / "step-00000006.pt.diverged").exists()
    later = CheckpointStore(tmp_path)
    assert step_of(later.newest_valid()) == 4
    later.save(small_checkpoint(5), 0.5)
    assert step_of(CheckpointStore(tmp_path).newest_valid()) == 5


def test_where_all_are_of_the_divergence_the_run_begins_anew(tmp_path: Path) -> None:
    filled(tmp_path, 2, 4, best=4)
    assert CheckpointStore(tmp_path).newest_valid(useless_since=1) is None
    assert {path.name for path in tmp_path.iterdir()} == {
        *("checkpoints.json", "step-00000002.pt.diverged", "step-00000004.pt.diverged")
    }
    assert CheckpointStore(tmp_path).newest_valid() is None
    filled(tmp_path, 1)
    assert step_of(tmp_path / "last.pt") == step_of(tmp_path / "best.pt") == 1
