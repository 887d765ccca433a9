"""A run goes on only with the classes and images that it began with, or if that is accepted."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.pictures import plant
from vtrain.data.datasets.builtin import Fake
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.samples import FileSamples, Paths, Source
from vtrain.data.datasets.splits import Split
from vtrain.data.inspect.fingerprint import check_unchanged, dataset_fingerprint, fingerprint
from vtrain.errors import DataError

NAMES = [f"{split}/{c}/{i}.png" for split in ("train", "val") for c in "ab" for i in range(3)]


def of(source: Source) -> dict[str, Any]:
    return dataset_fingerprint(source.classes, source.split("train"), source.split("val"))


def test_a_fingerprint_is_the_same_wherever_the_dataset_lies(tmp_path: Path) -> None:
    first, second = (ImageFolder(root=plant(tmp_path / place, *NAMES)) for place in ("x", "y"))
    assert of(first) == of(second)
    assert of(first)["train"]["per_class"] == [3, 3]
    assert json.loads(json.dumps(of(first))) == of(first)
    assert not check_unchanged(of(first), of(second), "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: plant(r, "train/a/9.png"), "train: 6 then, 7 now"),
        (lambda r: (r / "train/a/0.png").unlink(), "train: 6 then, 5 now"),
        (lambda r: (r / "train/a/0.png").rename(r / "train/b/9.png"), "images per class"),
        (lambda r: (r / "train/a/0.png").rename(r / "train/a/9.png"), "other names"),
        (lambda r: (r / "train/a/0.png").write_bytes(b"longer" * 1000), "other names, sizes"),
        (lambda r: plant(r, "val/a/9.png"), "val: 6 then, 7 now"),
    ],
)
def test_any_change_of_the_files_is_noticed_and_may_be_accepted(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    root = plant(tmp_path, *NAMES)
    before = of(ImageFolder(root=root))
    change(root)
    after = of(ImageFolder(root=root))
    with pytest.raises(DataError, match=message):
        check_unchanged(before, after, root)
    assert check_unchanged(before, after, root, accept=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: plant(r, "train/c/0.png"), "1 new \\('c'\\)"),
        (lambda r: (r / "train/a").rename(r / "train/x"), "1 missing \\('a'\\), 1 new \\('x'\\)"),
    ],
)
def test_other_classes_are_refused_even_if_changes_are_accepted(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    root = plant(tmp_path, *(name for name in NAMES if name.startswith("train")))
    source = Split(ImageFolder(root=root), val_fraction=0.4)
    before = of(source)
    change(root)
    after = of(Split(ImageFolder(root=root), val_fraction=0.4))
    with pytest.raises(DataError, match=message):
        check_unchanged(before, after, root, accept=True)


def test_the_same_classes_in_another_order_are_refused() -> None:
    before = of(Fake(num_images=20))
    after = {**before, "classes": before["classes"][::-1]}
    with pytest.raises(DataError, match="another order"):
        check_unchanged(before, after, "fake")


def test_swapped_labels_of_stored_images_are_noticed() -> None:
    samples = Fake(num_images=20).split("train")
    before = fingerprint(samples)
    samples.targets[[0, 1]] = samples.targets[[1, 0]]
    assert fingerprint(samples)["per_class"] == before["per_class"]
    assert fingerprint(samples) != before


def test_another_selection_has_another_fingerprint() -> None:
    one, other = (Split(Fake(num_images=50), limit=n).split("train") for n in (20, 21))
    assert fingerprint(one) != fingerprint(other)


def test_fifty_thousand_files_take_little_time(tmp_path: Path) -> None:
    plant(tmp_path, "a/0.png")
    targets = torch.zeros(50_000, dtype=torch.int64)
    samples = FileSamples(tmp_path, Paths(["a/0.png"] * 50_000), targets)
    began = time.process_time()
    fingerprint(samples)
    assert time.process_time() - began < 3  # measured: 0.21 s
