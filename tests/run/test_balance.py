"""What the screen says of rare classes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import SMALL_RUN, Result

Vtrain = Callable[..., Result]


@pytest.fixture
def uneven(small_run: Path) -> Path:
    """Make 2 images of a cat, 4 of a dog and 12 of an owl, and one of each to validate."""
    draw = torch.Generator().manual_seed(0)
    for split, counts in (("train", (2, 4, 12)), ("val", (1, 1, 1))):
        for label, count in zip(("cat", "dog", "owl"), counts, strict=True):
            folder = Path("photos", split, label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(256, (16, 16, 3), generator=draw).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / f"{number}.png")
    data = "data: {name: image_folder, root: photos, image_size: 16}"
    lines = [data if x.startswith("data:") else x for x in SMALL_RUN.splitlines()]
    small_run.write_text("\n".join(lines))
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
