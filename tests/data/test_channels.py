"""`data.channels`: what the model sees of grey, colours and many bands, in training and after."""

import io
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.files.image_table import npy
from tests.files.test_images import encoded, gradient
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.augment.policies import RandAugment, TimmRandAugment, TrivialAugmentWide
from vtrain.data.datasets.samples import ArraySamples, FileSamples, Paths
from vtrain.data.loading.cache import as_array
from vtrain.data.loading.worker import decode
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.data.unused import Unused
from vtrain.errors import DataError
from vtrain.files.images import decode_image

PHOTO = gradient(57, 40)
STACK = np.random.default_rng(0).integers(0, 256, (40, 57, 5), np.uint8)


def seeing(channels: int, size: int = 16, **keys: object) -> Preprocess:
    half = (0.5,) * channels
    return Preprocess(size, half, half, channels, **keys)  # type: ignore[arg-type]


def resized(resize: str) -> dict[str, object]:
    return {"resize": resize, "crop_fraction": 0.9 if resize == "crop" else 1.0}


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_each_band_is_prepared_as_a_grey_image_would_be(resize: str) -> None:
    got = seeing(5, **resized(resize))(decode_image(npy(STACK)))
    assert got.shape == (5, 16, 16)
    for band in range(5):
        alone = Image.fromarray(STACK[..., band])
        want = Preprocess(16, **resized(resize))(decode_image(encoded(alone)))  # type: ignore[arg-type]
        assert torch.equal(got[band], want[0])


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_grey_is_pillows(resize: str) -> None:
    grey = PHOTO.convert("L")
    for given in (PHOTO, grey):
        got = seeing(1, **resized(resize))(decode_image(encoded(given)))
        assert torch.equal(
            got[0], Preprocess(16, **resized(resize))(decode_image(encoded(grey)))[0]
        )  # type: ignore[arg-type]


def test_a_stack_of_three_bands_is_seen_as_colours_are() -> None:
    three = np.ascontiguousarray(STACK[..., :3])
    got = Preprocess(16)(decode_image(npy(three)))
    assert torch.equal(got, Preprocess(16)(decode_image(encoded(Image.fromarray(three)))))


def test_alpha_is_the_fourth_channel_or_white() -> None:
    picture = Image.fromarray(np.ascontiguousarray(STACK[..., :4]))
    got = seeing(4, 20)(decode_image(encoded(picture)))
    planes = [decode_image(encoded(plane)) for plane in picture.split()]
    assert torch.equal(got, torch.stack([Preprocess(20)(plane)[0] for plane in planes]))
    page = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    for channels, want in ((3, page), (1, page.convert("L"))):
        seen = seeing(channels, 20)(decode_image(encoded(picture)))
        assert torch.equal(seen, seeing(channels, 20)(decode_image(encoded(want))))


def test_deep_bands_are_seen_in_the_stated_range() -> None:
    deep = STACK.astype(np.int16) * 20
    for size in (16, 40):
        got = seeing(5, size, value_range=(0.0, 2550.0))(decode_image(npy(deep)))
        levels = np.rint(deep * np.float32(0.1)).clip(0, 255).astype(np.uint8)
        assert torch.equal(got, seeing(5, size)(decode_image(npy(levels))))


@pytest.mark.parametrize(("data", "has"), [(encoded(PHOTO), 3), (npy(STACK), 5)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_another_number_of_channels_is_refused(data: bytes, has: int, channels: int) -> None:
    if has == 3 and channels in {1, 3}:
        return  # which are made of colours
    preprocess = seeing(channels)
    whole = TrainGeometry(preprocess, 0, (0.5, 1.0), (1.0, 1.0))
    message = f"an image of {has} channels, where {channels} are asked for.*data.channels={has}"
    for make in (preprocess, lambda image: whole(image, 0, 0), whole.kept):
        with pytest.raises(DataError, match=message):
            make(decode_image(data))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_crops_caches_and_evaluation_see_the_same(tmp_path: Path, channels: int) -> None:
    names = []
    for number in range(3):
        names.append(f"{number}.npy" if channels == 5 else f"{number}.png")
        turned = np.ascontiguousarray(np.roll(STACK, number, 1)[:, :40])
        data = npy(turned) if channels == 5 else encoded(Image.fromarray(turned[..., :3].copy()))
        (tmp_path / names[-1]).write_bytes(data)
    samples = FileSamples(tmp_path, Paths(names), torch.zeros(3).long())
    whole = TrainGeometry(seeing(channels, 40), 0, (1.0, 1.0), (1.0, 1.0))
    part = TrainGeometry(seeing(channels), 0, (0.3, 0.6), (0.8, 1.2))
    kept = as_array(samples, "ram", part, Unused())
    assert isinstance(kept, ArraySamples)
    assert kept.array.shape == (3, channels, 40, 40)
    for index in range(3):
        image = samples.image(index)
        assert torch.equal(whole(image, index, 0), whole.preprocess(image))
        assert torch.equal(part(image, index, 4), part(kept.image(index), index, 4))
        assert torch.equal(part.preprocess(image), part.preprocess(kept.image(index)))


def test_large_jpegs_are_grey_by_every_way() -> None:
    photo = gradient(1600, 900)
    data = encoded(photo, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (400, 225))
        reduced = seeing(1, 64)(decode_image(encoded(image)))
    got = seeing(1, 64)(decode_image(data)).int()
    assert (got - reduced.int()).abs().max() <= 2  # by which box the quarter is scaled
    full = seeing(1, 64, reducing_gap=None)
    assert torch.equal(
        full(decode_image(data)), full(decode_image(encoded(Image.open(io.BytesIO(data)))))
    )
    crop = TrainGeometry(full, 0, (0.5, 0.5), (1.0, 1.0))
    assert crop(decode_image(data), 0, 0).shape == (1, 64, 64)


def test_a_refused_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(PHOTO))
    samples = FileSamples(tmp_path, Paths(["a.png"]), torch.zeros(1).long())
    geometry = TrainGeometry(seeing(4), 0, None, (1.0, 1.0))
    with pytest.raises(DataError, match=r"3 channels.*\(.*a\.png\)"):
        decode(samples, geometry, 0, 0)


def test_channels_are_kept_with_the_model_and_rule_mean_and_std() -> None:
    preprocess = seeing(5)
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
    without = {k: v for k, v in Preprocess(8).to_dict().items() if k != "channels"}
    assert Preprocess.from_dict(without) == Preprocess(8)  # as older checkpoints have it
    with pytest.raises(ValueError, match=r"mean .* a number for each channel, and channels is 1"):
        Preprocess(8, channels=1)


POLICIES = [RandAugment(), TrivialAugmentWide(), TimmRandAugment(probability=1.0)]


@pytest.mark.parametrize(
    "colour",
    [
        *({"policy": policy} for policy in POLICIES),
        {"brightness": 0.5, "contrast": 0.5, "blur": 0.5},
    ],
    ids=str,
)
def test_grey_is_augmented_as_its_copies_in_three_channels(colour: dict[str, object]) -> None:
    grey = torch.randint(256, (64, 1, 12, 12), generator=torch.Generator().manual_seed(0))

    def augmented(images: Tensor) -> Tensor:
        half = (0.5,) * images.shape[1]
        augment = Augment(
            CropFlip(12, "bicubic", cropped=False, crop="pad", crop_padding=2),
            Colour(half, **colour),  # type: ignore[arg-type]
            Erasing(0, erasing=0.5),
            half,
            half,
            0,
        )
        indices, epoch = torch.arange(64), 1
        return augment.apply(images.to(torch.uint8), augment.draw(indices, epoch, images.shape[2:]))

    one, three = augmented(grey), augmented(grey.expand(-1, 3, -1, -1))
    for channel in range(3):
        torch.testing.assert_close(one[:, 0], three[:, channel], rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "key"), [*product([1, 2, 5], ["saturation", "hue", "grey"])])
def test_keys_of_colour_are_refused_where_there_is_none(channels: int, key: str) -> None:
    with pytest.raises(ValueError, match="saturation, hue and grey change colours"):
        Colour((0.5,) * channels, **{key: 0.2})  # type: ignore[arg-type]
