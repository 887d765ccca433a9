"""Views of images, against torchvision, and the mean of their probabilities."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from vtrain.data.preprocess import Preprocess
from vtrain.inference.tasks import SingleLabel
from vtrain.inference.views import asked_about, geometry_for, views_of


def test_five_crops_are_torchvisions() -> None:
    images = torch.randint(0, 256, (2, 3, 37, 37), dtype=torch.uint8)
    found = list(views_of("five-crop", images, 32))
    top_left, top_right, bottom_left, bottom_right, centre = v2.FiveCrop(32)(images)
    expected = [centre, top_left, top_right, bottom_left, bottom_right]
    assert len(found) == 5
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_flip_is_the_mirror_image() -> None:
    images = torch.rand(2, 3, 8, 8)
    same, mirrored = views_of("flip", images, 8)
    assert torch.equal(same, images)
    assert torch.equal(mirrored, v2.functional.hflip(images))


def test_crops_are_at_the_scale_of_the_centre_crop() -> None:
    """Of 224 pixels and a fraction of 0.875 it is ImageNet's: 256 pixels, five times 224."""
    geometry = Preprocess(224, crop_fraction=0.875)
    prepared = geometry_for("five-crop", geometry)
    assert (prepared.image_size, prepared.crop_fraction) == (256, 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    image = Image.fromarray(pixels)
    centre, *_ = views_of("five-crop", prepared(image)[None], 224)
    assert torch.equal(centre[0], geometry(image))
    # Where the model sees all of an image, the crops are of one that is an eighth larger.
    for resize in ("crop", "squash", "letterbox"):
        assert geometry_for("five-crop", Preprocess(28, resize=resize)).image_size == 32
    assert geometry_for("flip", geometry) is geometry


class Brightness(nn.Module):
    """Says 0 of images that are dark on the left, 1 of others."""

    def forward(self, images: Tensor) -> Tensor:
        left = images[..., : images.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([-left, left], dim=1) * 3


def test_the_model_says_the_mean_of_the_probabilities_of_each_view() -> None:
    images = torch.rand(4, 3, 8, 8)
    model = Brightness().eval()
    asked = asked_about(model, Preprocess(8), "flip")
    found = asked.model(images)
    expected = (model(images).softmax(1) + model(images.flip(-1)).softmax(1)) / 2
    torch.testing.assert_close(found.exp(), expected)
    torch.testing.assert_close(found.softmax(1), expected)  # as logits they are the same
    assert not asked.model.training
    assert asked_about(model, Preprocess(8), None).model is model


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_the_mean_is_finite_whatever_the_logits(size: float) -> None:
    logits = [size * torch.randn(3, 5) for _ in range(3)]
    found = SingleLabel().mean_of(logits)
    assert found.isfinite().all()
    expected = torch.stack([one.double().softmax(1) for one in logits]).mean(0)
    torch.testing.assert_close(found.exp().double(), expected, rtol=1e-5, atol=1e-6)
