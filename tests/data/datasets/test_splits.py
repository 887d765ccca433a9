import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from vtrain.data.datasets.builtin import Digits, Fake
from vtrain.data.datasets.places import places
from vtrain.data.datasets.samples import (
    ArraySamples,
    FileSamples,
    Paths,
    Photographs,
    Samples,
    SplitName,
)
from vtrain.data.datasets.splits import Split
from vtrain.data.datasets.stratified import Fold, hold_out
from vtrain.errors import DataError


def ids(samples: Samples) -> set[str]:
    return {samples.name(i) for i in range(len(samples))}


def test_without_choices_a_selection_is_the_source() -> None:
    split = Split(Fake())
    for name in ("train", "val", "test"):
        assert torch.equal(split.split(name).targets, Fake().split(name).targets)
    assert split.classes == Fake().classes
    assert (split.mean, split.std) == (Fake.mean, Fake.std)


def test_one_split_can_stand_for_all() -> None:
    whole = Split(Fake(num_images=200), "train", limit=20)
    train, val = whole.split("train"), whole.split("val")
    assert ids(train) == ids(val)
    assert len(val) == 20


def test_val_fraction_takes_validation_from_training_and_leaves_test_alone() -> None:
    whole = ids(Fake(num_images=200).split("train"))
    split = Split(Fake(num_images=200), val_fraction=0.25)
    train, val = ids(split.split("train")), ids(split.split("val"))
    assert len(val) == 50
    assert train | val == whole
    assert not train & val
    assert ids(split.split("test")) == ids(Fake(num_images=200).split("test"))


def test_folds_validate_every_image_once() -> None:
    source = Fake(num_images=103)
    folds = [Split(source, fold=Fold(of=5, index=i)) for i in range(5)]
    seen = [ids(fold.split("val")) for fold in folds]
    assert sum(map(len, seen)) == 103
    assert set.union(*seen) == ids(source.split("train"))
    assert all(not ids(f.split("train")) & ids(f.split("val")) for f in folds)


@pytest.mark.parametrize(
    ("choice", "train", "val"),
    [
        ({"fraction": 0.1}, 100, 25),
        ({"limit": 30}, 30, 30),
        ({"fraction": 0.5, "limit": 200}, 200, 125),
        ({"fraction": 0.00001}, 1, 1),
        ({"limit": 10**6}, 1000, 250),
        ({"val_fraction": 0.2, "limit": 100}, 100, 100),
    ],
)
def test_quick_runs_use_a_share_of_both_splits(
    choice: dict[str, float], train: int, val: int
) -> None:
    split = Split(Fake(num_images=1000), **choice)
    assert len(split.split("train")) == train
    assert len(split.split("val")) == val


def test_choices_do_not_change_from_call_to_call() -> None:
    first, second = (Split(Digits(), val_fraction=0.3, fraction=0.5) for _ in range(2))
    assert ids(first.split("val")) == ids(second.split("val"))


# By name

FORMS = ("a/{}.png", "b/{}.png", "a/IMG_{:04}.jpg", "b/day/{}.jpg", "a/{}x.png", "b/{:x}.png")
CHOICES: tuple[dict[str, Any], ...] = (
    *({"val_fraction": fraction} for fraction in (0.1, 0.25, 0.5)),
    *({"fold": Fold(of=of, index=index)} for of, index in ((2, 1), (5, 0), (7, 3))),
)


def some_files(draw: random.Random, count: int) -> list[str]:
    return list({draw.choice(FORMS).format(draw.randrange(1000)) for _ in range(count)})


class Listed(Photographs):
    """Files that nobody reads, in two classes: what `a/` and `b/` hold."""

    classes, notes, origin = ("a", "b"), (), Path("listed")
    splits: tuple[SplitName, ...] = ("train",)

    def __init__(self, files: Iterable[str]) -> None:
        self.files = sorted({"a/", "b/", *files})  # a name to remain in each class

    def split(self, name: SplitName) -> FileSamples:
        targets = torch.tensor([self.classes.index(file[0]) for file in self.files])
        return FileSamples(Path("listed"), Paths(self.files), targets)


def sides(files: Iterable[str], **choice: Any) -> dict[str, str]:
    """File -> the side that it is on."""
    split = Split(Listed(files), **choice)
    parts: dict[SplitName, Samples] = {name: split.split(name) for name in ("train", "val")}
    return {part.key(i) or "": side for side, part in parts.items() for i in range(len(part))}


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_new_and_removed_images_move_no_other(seed: int, choice: dict[str, Any]) -> None:
    draw = random.Random(seed)
    files, new = some_files(draw, 250), some_files(draw, draw.randint(1, 100))
    before, gone = sides(files, **choice), draw.sample(files, draw.randint(1, 100))
    assert set(before.values()) == {"train", "val"}
    for after in (sides(files + new, **choice), sides(set(files) - set(gone), **choice)):
        both = before.keys() & after.keys()
        assert {file: after[file] for file in both} == {file: before[file] for file in both}


@pytest.mark.parametrize("of", [2, 3, 5, 10])
def test_folds_by_name_cut_the_images_into_parts(of: int) -> None:
    files = some_files(random.Random(of), 200)
    parts = [sides(files, fold=Fold(of=of, index=i)) for i in range(of)]
    assert all(part.keys() == parts[0].keys() for part in parts)
    assert {sum(part[file] == "val" for part in parts) for file in parts[0]} == {1}


def test_a_larger_part_holds_the_smaller_one() -> None:
    files = some_files(random.Random(0), 200)
    small, large = (sides(files, val_fraction=f) for f in (0.2, 0.4))
    assert all(large[file] == "val" for file, side in small.items() if side == "val")


def test_the_only_image_of_a_class_is_trained_on_and_stays_so_in_its_run() -> None:
    alone = next(f"a/{n}.png" for n in range(99) if places([f"a/{n}.png"]) < 0.3)
    source, grown = (Listed([f"b/{n}.png" for n in range(30)]) for _ in range(2))
    source.files.remove("a/")
    source.files.insert(0, alone)
    split = Split(source, val_fraction=0.3)
    assert alone in {split.split("train").key(i) for i in range(len(split.split("train")))}
    assert split.kept_names == (alone,)
    grown.files[:1] = [alone, *(f"a/new {n}.png" for n in range(20))]
    for kept, side in ((split.kept_names, "train"), ((), "val")):
        after = Split(grown, None, kept, val_fraction=0.3).split(side)
        assert alone in {after.key(i) for i in range(len(after))}


def test_what_no_image_of_a_class_is_chosen_for_is_said() -> None:
    few = next(f"a/{n}.png" for n in range(99) if places([f"a/{n}.png"]) > 0.6)
    split = Split(Listed([f"b/{n}.png" for n in range(30)]), val_fraction=0.3)
    split.source.files[:1] = [few]
    assert not split.notes
    split.split("val")
    assert split.notes == ("the held-out part has no images of 1 class: a",)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_where_nothing_is_held_out_the_error_names_a_share_that_does(
    count: int, fraction: float
) -> None:
    for first in range(0, 400, 10):
        listed = Listed([])
        listed.files = [f"{c}/{first + n}.png" for c in "ab" for n in range(count)]
        try:
            Split(listed, val_fraction=fraction).split("val")
        except DataError as error:
            least = re.search(r"data\.val_fraction=([\d.]+) or more", error.hint or "")
            assert (least is None) == (count == 1)
            if least is not None:
                assert float(least[1]) > fraction
                assert len(Split(listed, val_fraction=float(least[1])).split("val"))


def test_a_share_by_name_has_as_many_of_each_class_and_grows_with_the_limit() -> None:
    files = [f"{c}/{n}.png" for c, count in (("a", 100), ("b", 50)) for n in range(count)]
    chosen = [Split(Listed(files), limit=limit).split("train") for limit in (30, 60)]
    assert [part.targets.bincount().tolist() for part in chosen] == [[20, 10], [40, 20]]
    few, many = ({part.key(i) for i in range(len(part))} for part in chosen)
    assert few < many


def test_an_older_run_keeps_its_split_by_position() -> None:
    files = [f"{c}/{n}.png" for c in "ab" for n in range(40)]
    source = Listed(files)
    by_position = Split(source, None, (), True, val_fraction=0.25)
    expected = hold_out(source.split("train").targets, 0.25)
    assert by_position.split("val").targets.tolist() == [
        *source.split("train").targets[expected].tolist()
    ]
    assert by_position.moves_images
    assert not Split(source, val_fraction=0.25).moves_images


def test_fold_and_val_fraction_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"fold and val_fraction \(0\.2\)"):
        Split(Fake(), val_fraction=0.2, fold=Fold(of=5, index=0))


def test_a_fold_must_exist() -> None:
    with pytest.raises(ValueError, match=r"fold\.index \(5\) must be less than fold\.of \(5\)"):
        Split(Fake(), fold=Fold(of=5, index=5))
    with pytest.raises(ValidationError):
        Fold(of=1, index=0)


@dataclass
class OneImage(Fake):
    def __init__(self) -> None:
        super().__init__(num_classes=2)

    def split(self, name: str) -> ArraySamples:
        return ArraySamples(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.tensor([0]), "one")


@pytest.mark.parametrize("choice", [{"val_fraction": 0.5}, {"fold": Fold(of=2, index=1)}])
def test_a_split_that_would_be_empty_is_refused(choice: dict[str, object]) -> None:
    with pytest.raises(DataError, match="too few images"):
        Split(OneImage(), **choice).split("val")


def test_the_digits_are_split_by_class_with_no_scan_in_both() -> None:
    train, val = Digits().split("train"), Digits().split("val")
    assert len(train) + len(val) == 1797
    total = train.targets.bincount() + val.targets.bincount()
    assert (val.targets.bincount() - total * 0.2).abs().max() <= 1


def test_the_digits_have_the_declared_statistics() -> None:
    parts = [Digits().split(name).array for name in ("train", "val")]
    pixels = torch.cat(parts).double() / 255
    assert pixels.mean().item() == pytest.approx(Digits.mean[0], abs=1e-3)
    assert pixels.std(correction=0).item() == pytest.approx(Digits.std[0], abs=1e-3)


def test_fake_images_differ_by_class_and_split() -> None:
    train, val = Fake(num_images=40).split("train"), Fake(num_images=40).split("val")
    assert train.array.shape == (40, 3, 32, 32)
    assert not torch.equal(train.array[: len(val)], val.array)
    same = (train.array[0].float() - train.array[10].float()).abs().mean()
    other = (train.array[0].float() - train.array[1].float()).abs().mean()
    assert other > same
