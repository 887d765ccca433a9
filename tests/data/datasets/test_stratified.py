import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vtrain.data.datasets.stratified import (
    Fold,
    balanced_order,
    hold_out,
    in_fold,
    stratified_sample,
)

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
