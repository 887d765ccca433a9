import os
from pathlib import Path

from tests.harness import Vtrain
from vtrain.files.lock import RunLock
from vtrain.files.runs import RunFolder


def flipped(path: Path) -> None:
    """Change one bit in the middle of a file that shares its content with no other name."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_every_checkpoint_is_named_and_the_one_to_go_on_from(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    done = vtrain("verify", "run")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()[:2]] == [
        ["intact", "step-00000006.pt"],
        ["intact", "step-00000003.pt"],
    ]
    assert done.out.endswith(
        "the run is finished; the newest intact checkpoint is step 6 (step-00000006.pt)\n"
    )


def test_the_step_is_said_from_which_a_run_goes_on(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    RunFolder(Path("run")).write_status("stopped")
    assert vtrain("verify", "run").out.endswith("a resume goes on from step 6 (step-00000006.pt)\n")
    for path in Path("run").glob("step-*.pt"):
        path.unlink()
    assert vtrain("verify", "run").out.endswith("a resume goes on from step 6 (last.pt)\n")


def test_a_truncated_checkpoint_is_told_with_both_sizes(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    newest = Path("run/step-00000006.pt")
    size = newest.stat().st_size
    os.truncate(newest, 5000)
    done = vtrain("verify", "run")
    assert done.code == 0
    assert f"it has 5,000 bytes, checkpoints.json says {size:,}" in done.out
    assert done.out.endswith("is step 3 (step-00000003.pt)\n")


def test_without_a_manifest_the_files_are_verified_by_themselves(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    Path("run/checkpoints.json").unlink()
    done = vtrain("verify", "run")
    assert done.code == 0
    assert "there is no checkpoints.json" in done.out


def test_a_damaged_manifest_is_the_one_thing_to_say(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    Path("run/checkpoints.json").write_text("{")
    done = vtrain("verify", "run")
    assert done.code == 4
    assert done.out == ""
    assert "the manifest is damaged" in done.err
    assert "delete it" in done.err


def test_a_run_that_goes_on_is_said_and_not_disturbed(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    with RunLock(Path("run")):
        done = vtrain("verify", "run")
        assert done.code == 0
        assert f"the run goes on now: it is locked by pid {os.getpid()}" in done.out
    assert "goes on now" not in vtrain("verify", "run").out


def test_nothing_at_the_path_is_said(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("verify", "nowhere")
    assert done.code == 4
    assert "no such run folder or checkpoint (nowhere)" in done.err


def test_a_flipped_bit_is_found_and_the_one_before_is_used(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    flipped(Path("run/step-00000006.pt"))
    done = vtrain("verify", "run")
    assert done.code == 0
    assert "damaged  step-00000006.pt" in done.out
    assert "the newest intact checkpoint is step 3 (step-00000003.pt)" in done.out


def test_a_lost_checkpoint_is_exit_code_4(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    flipped(Path("run/last.pt"))
    done = vtrain("verify", "run/last.pt")
    assert done.code == 4
    assert done.out.startswith("damaged  last.pt")
    assert "no checkpoint is intact (run/last.pt)" in done.err


def test_a_folder_without_checkpoints_is_said(small_run: Path, vtrain: Vtrain) -> None:
    Path("empty").mkdir()
    done = vtrain("verify", "empty")
    assert done.code == 4
    assert "holds no checkpoint" in done.err
