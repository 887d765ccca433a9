"""`vtrain check` finds what `vtrain fit` of the same config would refuse."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain


@pytest.fixture
def photographs(small_run: Path) -> Path:
    plant_photographs({"train": {"cat": 6, "dog": 6}, "val": {"cat": 2, "dog": 2}})
    config = Path("photos.yaml")
    config.write_text(over_photographs(SMALL_RUN))
    return config


def only_training() -> None:
    shutil.rmtree("photos/val")


def unknown_class() -> None:
    shutil.copytree("photos/val/dog", "photos/val/bird")


def no_images() -> None:
    shutil.rmtree("photos/val/dog")
    shutil.rmtree("photos/val/cat")
    Path("photos/val/dog").mkdir()
    Path("photos/val/cat").mkdir()


MISTAKES: list[tuple[Callable[[], None], str]] = [
    (only_training, ""),
    (unknown_class, ""),
    (no_images, ""),
    (lambda: None, "data.fold={index: 4, of: 3}"),
    (lambda: None, "data.fold={index: 40, of: 50}"),
    (lambda: None, "data.val_fraction=0.001"),
    (lambda: None, "data.root=nowhere"),
    (lambda: None, "data.repeats=2 data.balanced=true"),
]


@pytest.mark.parametrize(("spoil", "changes"), MISTAKES)
def test_check_refuses_what_fit_refuses_in_the_same_words(
    photographs: Path, vtrain: Vtrain, spoil: Callable[[], None], changes: str
) -> None:
    spoil()
    given = [changes] if "{" in changes else changes.split()
    run = vtrain("fit", photographs, "--run-dir", "run", "train.max_steps=1", *given)
    assert run.code in (2, 3)
    checked = vtrain("check", photographs, *given)
    assert checked.code == run.code
    assert checked.errors == run.errors


def test_check_says_how_many_images_there_are(photographs: Path, vtrain: Vtrain) -> None:
    facts = vtrain("check", photographs).out.splitlines()
    assert [line.split()[-1] for line in facts if " images  " in line] == ["12", "4"]
