import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy.ndimage import gaussian_filter
from torch import Tensor

from vtrain.report.corruptions import OPERATIONS, SEVERITIES, corrupted, under_corruptions
from vtrain.report.measured import speed


def images(count: int = 6, side: int = 24) -> Tensor:
    noise = np.random.default_rng(0).integers(0, 256, (count, 3, side, side))
    smooth = gaussian_filter(noise.astype(float), (0, 0, 2, 2))
    scaled = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    return torch.tensor(scaled.astype(np.uint8))


THEIRS = {
    "bright": TF.adjust_brightness,
    "dark": TF.adjust_brightness,
    "contrast": TF.adjust_contrast,
    "grey": TF.adjust_saturation,
    "coarse": TF.posterize,
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("severity", range(SEVERITIES))
def test_colours_are_changed_as_torchvision_changes_them(name: str, severity: int) -> None:
    given, operation = images(), OPERATIONS[name]
    theirs = torch.stack([THEIRS[name](image, operation.amounts[severity]) for image in given])
    difference = corrupted(given, operation, severity).int() - theirs.int()
    assert difference.abs().max() <= 1  # rounding


def test_blur_is_that_of_scipy_and_grows_with_the_image() -> None:
    operation = OPERATIONS["blur"]
    for side in (24, 96):
        given = images(2, side)
        sigma = operation.amounts[4] * side
        theirs = gaussian_filter(given.double().numpy(), (0, 0, sigma, sigma), mode="mirror")
        inner = slice(side // 4, -side // 4)
        ours = corrupted(given, operation, 4)[..., inner, inner].double().numpy()
        np.testing.assert_allclose(ours, theirs[..., inner, inner], atol=3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_severity_is_further_from_the_clean_image(name: str) -> None:
    given = images(side=64)
    distances = [
        (corrupted(given, OPERATIONS[name], severity).int() - given.int()).abs().double().mean()
        for severity in range(SEVERITIES)
    ]
    assert distances[0] > 0
    assert distances == sorted(distances)


def brightest(batch: Tensor) -> Tensor:
    """A model that a loop can follow: which third of the range the mean lies in."""
    return (batch.double().mean((1, 2, 3)) * 3 / 256).long()


def test_counts_are_those_of_a_loop_over_images() -> None:
    given = images(20)
    targets = brightest(given)
    targets[:5] = 2
    batches = [(given[:8], targets[:8]), (given[8:], targets[8:])]
    found = under_corruptions(brightest, batches)
    assert found.images == 20
    assert found.clean == (brightest(given) == targets).double().mean()
    drops = []
    for one in found.each:
        for severity in range(SEVERITIES):
            right = sum(
                int(brightest(corrupted(image[None], OPERATIONS[one.name], severity)) == target)
                for image, target in zip(given, targets, strict=True)
            )
            assert one.accuracy[severity] == right / 20
            drops.append(found.clean - right / 20)
            assert one.drop[severity] == pytest.approx(drops[-1])
    assert found.mean_drop == pytest.approx(np.mean(drops))


def test_the_speed_is_the_median_within_its_interval() -> None:
    found = speed(4, [9.0, 10.0, 11.0, 12.0, 50.0])
    assert found.images_per_second == 11
    assert 9 <= found.interval.low <= 11 <= found.interval.high <= 50
    assert found.windows == 5
    alone = speed(1, [3.0])
    assert alone.interval == (3, 3)
