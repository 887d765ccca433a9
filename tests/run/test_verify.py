from collections.abc import Callable
from pathlib import Path

from tests.conftest import Result

Vtrain = Callable[..., Result]


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
    assert done.out.endswith("a resume goes on from step-00000006.pt\n")


def test_a_flipped_bit_is_found_and_the_one_before_is_used(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run")
    flipped(Path("run/step-00000006.pt"))
    done = vtrain("verify", "run")
    assert done.code == 0
    assert "damaged  step-00000006.pt" in done.out
    assert "a resume goes on from step-00000003.pt" in done.out


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
