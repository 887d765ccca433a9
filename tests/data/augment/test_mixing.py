from typing import Any

import pytest
import torch
from scipy.special import betaincinv
from scipy.stats import beta, binomtest, kstest
from torch import Tensor

from vtrain.data.augment.mixing import Mixing, beta_quantiles
from vtrain.registry import Component

K = 10


def batch(count: int, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, size, size), torch.randint(K, (count,))


def own_share(count: int, size: int = 8, step: int = 0, **keys: Any) -> tuple[Tensor, Tensor]:
    """Mix ones with zeros: how much of each own pixel stays, and the own class's weight."""
    images = torch.zeros(count, 1, size, size)
    images[::2] = 1
    targets = torch.arange(count) % 2
    mixed, soft = Mixing(2, 0, **keys)(images, targets, 0, step, 0)
    share = torch.where(images == 1, mixed, 1 - mixed)[:, 0]
    return share, soft.gather(1, targets[:, None])[:, 0]


def test_without_mixing_images_and_targets_are_handed_on() -> None:
    images, targets = batch(6)
    mixed, same = Mixing(K, 0)(images, targets, 0, 0, 0)
    assert mixed is images
    assert same is targets


def test_mixup_is_a_weighted_sum_with_the_neighbour() -> None:
    images, targets = batch(8)
    mixed, soft = Mixing(K, 0, mixup=0.8)(images, targets, 0, 5, 0)
    _, weights = own_share(8, step=5, mixup=0.8)
    one_hot = torch.eye(K)[targets]
    for i in range(8):
        own, other = weights[i], 1 - weights[i]
        torch.testing.assert_close(mixed[i], own * images[i] + other * images[i ^ 1])
        torch.testing.assert_close(soft[i], own * one_hot[i] + other * one_hot[i ^ 1])


def test_cutmix_pastes_one_box_and_weighs_by_its_true_area() -> None:
    share, weights = own_share(400, cutmix=1.0)
    assert set(share.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(weights, share.mean((1, 2)))
    for hole in share == 0:
        if hole.any():
            rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
            assert hole.sum() == len(rows) * len(columns)
            assert rows[-1] - rows[0] + 1 == len(rows)
            assert columns[-1] - columns[0] + 1 == len(columns)


def test_a_pair_shares_its_parameters() -> None:
    for keys in ({"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}):
        share, weights = own_share(64, **keys)
        torch.testing.assert_close(share[0::2], share[1::2])
        torch.testing.assert_close(weights[0::2], weights[1::2])


@pytest.mark.parametrize("keys", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_rows_of_targets_sum_to_one(keys: dict[str, float]) -> None:
    _, soft = Mixing(K, 0, **keys)(*batch(128), 0, 3, 0)
    torch.testing.assert_close(soft.sum(1), torch.ones(128))
    assert (soft >= 0).all()


@pytest.mark.parametrize("keys", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_several_labels_are_mixed_by_the_share_of_their_pixels(keys: dict[str, float]) -> None:
    draw = torch.Generator().manual_seed(0)
    several = (torch.rand(6, 3, generator=draw) < 0.5).float()
    images, place = torch.rand(6, 3, 8, 8), {"start": 0, "step": 4, "epoch": 0}
    mixed, labels = Mixing(3, 0, **keys)(images, several, **place)
    # Each image a class of its own: the rows are shares of images.
    same, shares = Mixing(6, 0, **keys)(images, torch.arange(6), **place)
    assert torch.equal(mixed, same)
    torch.testing.assert_close(labels, shares @ several)


def test_an_odd_last_sample_stays_as_it_is() -> None:
    images, targets = batch(7)
    for keys in ({"mixup": 0.8}, {"cutmix": 1.0}):
        mixed, soft = Mixing(K, 0, **keys)(images, targets, 0, 0, 0)
        torch.testing.assert_close(mixed[6], images[6])
        torch.testing.assert_close(soft[6], torch.eye(K)[targets[6]])


@pytest.mark.parametrize("cuts", [[4], [2, 10], [6, 8, 12]])
def test_the_number_of_processes_changes_nothing(cuts: list[int]) -> None:
    images, targets = batch(15)
    mixing = Mixing(K, 0, mixup=0.8, cutmix=1.0)
    whole = mixing(images, targets, 0, 7, 0)
    shares = zip(images.tensor_split(cuts), targets.tensor_split(cuts), [0, *cuts], strict=True)
    parts = [mixing(*share, 7, 0) for share in shares]
    for together, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(together, torch.cat(pieces))


def test_seed_and_step_change_the_mixing() -> None:
    images, targets = batch(16)
    first = Mixing(K, 0, mixup=1.0)(images, targets, 0, 0, 0)[0]
    assert not torch.equal(Mixing(K, 1, mixup=1.0)(images, targets, 0, 0, 0)[0], first)
    assert not torch.equal(Mixing(K, 0, mixup=1.0)(images, targets, 0, 1, 0)[0], first)
    assert torch.equal(Mixing(K, 0, mixup=1.0)(images, targets, 0, 0, 3)[0], first)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_mixups_weights_have_the_beta_distribution(alpha: float) -> None:
    _, weights = own_share(6000, size=1, mixup=alpha)
    assert kstest(weights[::2], beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.8, 1.0, 2.0, 20.0])
def test_quantiles_are_scipys(alpha: float) -> None:
    u = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
    want = torch.from_numpy(betaincinv(alpha, alpha, u.numpy()))
    torch.testing.assert_close(beta_quantiles(alpha, 4096).double(), want, rtol=0, atol=1e-6)


def test_cutmixs_boxes_are_those_of_the_paper() -> None:
    """Sides are sqrt(1 - lambda), centres uniform, what hangs over is cut: by another draw."""
    share, _ = own_share(6000, size=32, cutmix=1.0)
    heights = (share == 0).any(2).sum(1)[::2]
    side = (32 * (1 - torch.rand(3000)).sqrt()).long()
    centre = torch.randint(32, (3000,))
    low, high = (centre - side // 2).clamp(min=0), (centre + (side + 1) // 2).clamp(max=32)
    assert kstest(heights, high - low).pvalue > 0.01


def test_probabilities_choose_pairs() -> None:
    share, _ = own_share(
        8000, size=4, mixup=1.0, cutmix=1.0, mix_probability=0.6, mix_switch_probability=0.3
    )
    pairs = share[::2].flatten(1)
    is_mixup = ((pairs > 0) & (pairs < 1)).all(1)
    assert binomtest(int(is_mixup.sum()), 4000, 0.6 * 0.7).pvalue > 0.01


def test_mixing_ends_with_its_epoch() -> None:
    mixing = Mixing(K, 0, mixup=0.8, mix_off_epoch=3)
    images, targets = batch(4)
    assert mixing.is_on(2)
    assert not mixing.is_on(3)
    assert mixing(images, targets, 0, 9, 2)[1].shape == (4, K)
    assert mixing(images, targets, 0, 9, 3)[1] is targets


@pytest.mark.parametrize(
    "keys", [{"mixup": -0.1}, {"cutmix": "much"}, {"mix_probability": 1.1}, {"mix_off_epoch": -1}]
)
def test_a_value_out_of_range_is_refused_by_the_schema(keys: dict[str, Any]) -> None:
    section = Component("mixing", Mixing, {}).section()
    with pytest.raises(ValueError, match=next(iter(keys))):
        section(name="mixing", **keys)


def test_a_target_that_is_no_class_is_refused() -> None:
    images, _ = batch(2)
    with pytest.raises(RuntimeError, match="Class values must be smaller"):
        Mixing(K, 0, mixup=1.0)(images, torch.tensor([0, K]), 0, 0, 0)
