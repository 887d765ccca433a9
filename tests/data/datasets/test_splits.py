from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from vtrain.data.datasets.builtin import Digits, Fake
from vtrain.data.datasets.samples import ArraySamples, Samples
from vtrain.data.datasets.splits import (
    Fold,
    Split,
    balanced_order,
    hold_out,
    in_fold,
    stratified_sample,
)
from vtrain.errors import DataError

labels = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(torch.tensor)


def counts(targets: Tensor) -> Tensor:
    return targets.bincount(minlength=6)


@given(labels, st.floats(0, 0.99))
def test_held_out_parts_are_stratified_and_leave_every_class_to_train(
    targets: Tensor, fraction: float
) -> None:
    chosen = hold_out(targets, fraction)
    spare = len(targets) - int((counts(targets) > 0).sum())
    assert chosen.sum() == min(round(fraction * len(targets)), spare)
    assert ((counts(targets[~chosen]) > 0) == (counts(targets) > 0)).all()
    if spare:  # each class gives its part of the spare images, to within one
        quota = (counts(targets) - 1).clamp(min=0) * int(chosen.sum()) / spare
        assert (counts(targets[chosen]) - quota).abs().max() <= 1


@given(labels, st.integers(2, 6))
def test_folds_cut_the_samples_into_equal_stratified_parts(targets: Tensor, of: int) -> None:
    folds = torch.stack([in_fold(targets, Fold(of=of, index=i)) for i in range(of)])
    assert (folds.sum(0) == 1).all()
    sizes = folds.sum(1)
    assert sizes.max() - sizes.min() <= 1
    per_class = torch.stack([counts(targets[fold]) for fold in folds])
    assert (per_class.max(0).values - per_class.min(0).values).max() <= 1


@given(labels, st.integers(1, 80))
def test_a_share_keeps_proportions_and_every_class_it_can(targets: Tensor, count: int) -> None:
    count = min(count, len(targets))
    chosen = stratified_sample(targets, count)
    assert len(chosen) == count
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    present = int((counts(targets) > 0).sum())
    assert int((counts(targets[chosen]) > 0).sum()) == min(count, present)


@given(labels, st.integers(0, 3))
def test_a_balanced_epoch_shows_every_class_equally_often(targets: Tensor, epoch: int) -> None:
    order = balanced_order(targets, seed=1, epoch=epoch)
    N = len(targets)
    assert len(order) == N
    assert len(set(order.tolist())) == N  # each appearance has its own number
    shown = targets[order % N].bincount(minlength=6)[counts(targets) > 0]
    assert shown.max() - shown.min() <= 1
    times = (order % N).bincount(minlength=N)
    for label in targets.tolist():  # within a class nobody comes twice before all have come once
        of_class = times[targets == label]
        assert of_class.max() - of_class.min() <= 1


def test_a_balanced_order_depends_on_seed_and_epoch_alone() -> None:
    targets = torch.tensor([0] * 50 + [1] * 5)
    assert torch.equal(balanced_order(targets, 0, 1), balanced_order(targets, 0, 1))
    assert not torch.equal(balanced_order(targets, 0, 1), balanced_order(targets, 0, 2))
    assert not torch.equal(balanced_order(targets, 0, 1), balanced_order(targets, 1, 1))


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
