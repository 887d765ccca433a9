"""What the screen says of rare classes."""

import re
from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain


@pytest.fixture
def uneven(small_run: Path) -> Path:
    """Make 2 images of a cat, 4 of a dog and 12 of an owl, and one of each to validate."""
    ones = {"cat": 1, "dog": 1, "owl": 1}
    plant_photographs({"train": {"cat": 2, "dog": 4, "owl": 12}, "val": ones})
    small_run.write_text(over_photographs(SMALL_RUN))
    return small_run


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(balance|loss) +(.*)$", text, re.M))


def test_balanced_sampling_is_said_with_the_counts_the_rarest_first(
    uneven: Path, vtrain: Vtrain
) -> None:
    command = (uneven, "data.balanced=true", "train.batch_size=8")
    said = "each class is shown about 6 times per epoch; images: cat 2, dog 4, owl 12"
    assert rows(vtrain("fit", *command, "train.max_steps=1").err) == {"balance": said}
    assert rows(vtrain("check", *command).out) == {"balance": said}


def test_class_weights_are_said_with_the_counts(uneven: Path, vtrain: Vtrain) -> None:
    command = ("check", uneven, "train.batch_size=8")
    done = vtrain(*command, "train.loss.class_weights=balanced")
    # 18 images / (3 classes * count)
    said = "class weights (images): cat 3 (2), dog 1.5 (4), owl 0.5 (12)"
    assert rows(done.out) == {"loss": said}
    done = vtrain(*command, "train.loss.class_weights=[1, 1, 0.25]")
    assert rows(done.out)["loss"].endswith("cat 1 (2), dog 1 (4), owl 0.25 (12)")
    named = "train.loss.class_weights={owl: 0.25, dog: 1, cat: 2}"
    assert rows(vtrain(*command, named).out)["loss"].endswith("cat 2 (2), dog 1 (4), owl 0.25 (12)")
    assert rows(vtrain(*command).out) == {}


def test_of_many_classes_the_rarest_and_the_commonest_are_named(
    small_run: Path, vtrain: Vtrain
) -> None:
    change = ("data.num_classes=30", "data.num_images=75", "data.balanced=true")
    said = rows(vtrain("check", small_run, *change).out)["balance"]
    assert "class_15 2, class_16 2" in said
    assert said.count("class_") == 10
    assert said.endswith("class_13 3, class_14 3")


def test_weights_for_other_classes_are_refused(uneven: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", uneven, "train.batch_size=8", "train.loss.class_weights=[1, 2]")
    assert done.code == 2
    assert "class_weights has 2 values for 3 classes" in done.err
    done = vtrain("check", uneven, "train.loss.class_weights={owl: 1, dog: 1, cta: 1}")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "'cta', which is no class (1 unknown): did you mean 'cat'?" in done.err


def test_effective_weights_are_said_with_the_counts(uneven: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", uneven, "train.batch_size=8", "train.loss.class_weights=effective")
    # 1.999, 3.994 and 11.934 effective images: nearly as many as there are.
    assert rows(done.out)["loss"].startswith("class weights (images): cat 2.99 (2), dog 1.5 (4)")


def test_classes_of_different_size_are_corrected_for_once(uneven: Path, vtrain: Vtrain) -> None:
    command = ("check", uneven, "train.batch_size=8", "train.loss.tau=1")
    assert vtrain(*command).code == 0
    done = vtrain(*command, "data.balanced=true")
    assert done.code == 2
    assert done.errors == [
        "vtrain: error: train.loss.tau corrects for frequent classes, which data.balanced draws no "
        "more often: leave one of them out"
    ]
