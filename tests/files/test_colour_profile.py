"""Colour profiles against the formula of a matrix profile, made here by hand (ICC.1:2001-04)."""

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.files.profiles import DISPLAY_P3, GAMMA, SRGB, profile
from tests.files.test_images import encoded, gradient
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.files.colour_profile import to_srgb
from vtrain.files.images import decode_image

Levels = NDArray[np.float64]


def expected(pixels: Levels) -> Levels:
    """The same colours in sRGB; shape (H, W, 3), 0 to 255."""
    linear = (pixels / 255) ** GAMMA @ (np.linalg.inv(SRGB) @ DISPLAY_P3).T
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(255 * curved)


def test_wide_colours_become_those_of_srgb() -> None:
    photo = gradient(40, 30)
    image = decode_image(encoded(photo, icc_profile=profile("Display P3")))
    want = expected(np.asarray(photo).astype(np.float64))
    got = np.asarray(to_srgb(image)).astype(np.float64)
    assert np.abs(got - want).mean() < 1
    assert np.abs(want - np.asarray(photo)).mean() > 4  # so that it says something


def test_other_images_are_not_changed() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for given in (b"damaged", b"", own, profile("sRGB IEC61966-2.1"), profile("x")[:200]):
        image = decode_image(encoded(gradient(), icc_profile=given))
        assert to_srgb(image) is image
    assert to_srgb(image := decode_image(encoded(gradient()))) is image
    grey = Image.new("L", (4, 4))
    grey.info["icc_profile"] = profile("Display P3")
    assert to_srgb(grey) is grey


def test_a_converted_image_is_not_converted_again() -> None:
    image = decode_image(encoded(gradient(), icc_profile=profile("Display P3")))
    once = to_srgb(image)
    assert to_srgb(once) is once


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "size"), [("PNG", (40, 30)), ("JPEG", (1600, 1200))])
def test_training_and_evaluation_convert_alike(
    channels: int, kind: str, size: tuple[int, int]
) -> None:
    half = (0.5,) * channels
    data = encoded(gradient(*size), kind, icc_profile=profile("Display P3"))
    for gap in (2.0, None):
        with_, without = (
            Preprocess(16, half, half, channels, icc=icc, reducing_gap=gap) for icc in (True, False)
        )
        image = decode_image(data)
        assert (with_(image).int() - without(image).int()).abs().float().mean() > 2
        square = decode_image(encoded(gradient(16, 16), kind, icc_profile=profile("Display P3")))
        whole = TrainGeometry(with_, 0, (1.0, 1.0), (1.0, 1.0))
        assert torch.equal(whole(square, 0, 0), with_(square))
        kept = whole.kept(square)
        assert kept is not None
        assert torch.equal(with_(kept), with_(square))
        assert whole(image, 0, 0).shape == (channels, 16, 16)


def test_alpha_keeps_the_profile_of_its_colours() -> None:
    file = io.BytesIO()
    photo = gradient(16, 16).convert("RGBA")
    photo.save(file, "PNG", icc_profile=profile("Display P3"))
    opaque = decode_image(encoded(gradient(16, 16), icc_profile=profile("Display P3")))
    both = [Preprocess(16, icc=True)(image) for image in (decode_image(file.getvalue()), opaque)]
    assert torch.equal(*both)
