import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from vtrain.data import geometry
from vtrain.data.augment.crops import BOX_DRAWS, resized_crop_boxes
from vtrain.data.augment.draws import Stream
from vtrain.data.normalise import to_bytes
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.rng import uniforms

SIZES = [(60, 40), (40, 61), (33, 33), (200, 31), (9, 14), (301, 300)]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def mode(interpolation: str) -> InterpolationMode:
    return InterpolationMode(interpolation)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("fraction", [0.875, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_crop_is_torchvisions_resize_and_centre_crop(
    size: tuple[int, int], fraction: float, interpolation: Any
) -> None:
    image = photo(*size)
    resize = v2.Resize(int(32 / fraction), mode(interpolation))
    want = v2.Compose([resize, v2.CenterCrop(32), v2.PILToTensor()])(image)
    got = Preprocess(32, crop_fraction=fraction, interpolation=interpolation)(image)
    assert torch.equal(got, want)


@pytest.mark.parametrize("size", SIZES)
def test_squash_is_torchvisions_resize_to_a_square(size: tuple[int, int]) -> None:
    image = photo(*size)
    want = TF.pil_to_tensor(TF.resize(image, [32, 32], mode("bicubic")))
    assert torch.equal(Preprocess(32, resize="squash")(image), want)


@pytest.mark.parametrize("size", SIZES)
def test_letterbox_keeps_the_whole_image_on_the_mean_colour(size: tuple[int, int]) -> None:
    image = photo(*size)
    got = Preprocess(32, resize="letterbox", mean=(0.2, 0.4, 0.6))(image)
    width, height = (max(1, side * 32 // max(size)) for side in size)
    left, top = round((32 - width) / 2), round((32 - height) / 2)
    inner = got[:, top : top + height, left : left + width]
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    assert torch.equal(inner, TF.pil_to_tensor(resized))
    border = torch.ones(32, 32, dtype=torch.bool)
    border[top : top + height, left : left + width] = False
    assert (got[:, border] == torch.tensor([[51], [102], [153]])).all()


@pytest.mark.parametrize(
    "how", [{"crop_fraction": 0.875}, {"resize": "squash"}, {"resize": "letterbox"}]
)
def test_an_image_of_the_right_size_is_not_touched(how: Any) -> None:
    image = photo(32, 32)
    assert torch.equal(Preprocess(32, **how)(image), TF.pil_to_tensor(image))


def test_normalisation_is_torchvisions_and_can_be_undone() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    preprocess = Preprocess(8, mean=mean, std=std)
    normal = preprocess.normalise(images)
    want = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(images)
    torch.testing.assert_close(normal, want)
    assert torch.equal(preprocess.denormalise(normal), images)


def test_plain_data_brings_it_back_through_json() -> None:
    preprocess = Preprocess(
        48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), resize="letterbox", interpolation="bilinear"
    )
    stored = json.loads(json.dumps(preprocess.to_dict()))
    assert Preprocess.from_dict(stored) == preprocess


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_random_crop_is_torchvisions_for_the_same_box(interpolation: Any) -> None:
    """Equal to that of the tensor; of the Pillow image within two steps: it rounds otherwise."""
    preprocess = Preprocess(24, interpolation=interpolation)
    geometry = TrainGeometry(preprocess, 3, (0.08, 1.0), (3 / 4, 4 / 3))
    image = photo(60, 45)
    how = InterpolationMode("nearest-exact" if interpolation == "nearest" else interpolation)
    # Without AVX2 torchvision scales in fp32 and rounds once; torch's bytes are rounded after the
    # rows and after the columns. Three roundings of half a step together are less than two steps.
    scales_bytes = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    apart = 0 if scales_bytes or interpolation == "nearest" else 1
    for index in range(20):
        u = uniforms(torch.tensor([index]), BOX_DRAWS, 3, 7, Stream.CROP)
        box = resized_crop_boxes(u, 45, 60, (0.08, 1.0), (3 / 4, 4 / 3))[0].tolist()
        got = geometry(image, index, 7)
        tensor = TF.pil_to_tensor(image)
        expected = TF.resized_crop(tensor, *box, size=[24, 24], interpolation=how)
        assert (got.int() - expected.int()).abs().max() <= apart
        pillow = TF.resized_crop(image, *box, size=[24, 24], interpolation=mode(interpolation))
        assert (got.int() - TF.pil_to_tensor(pillow).int()).abs().max() <= 2


def test_without_a_random_crop_training_sees_the_evaluation_geometry() -> None:
    preprocess = Preprocess(24)
    geometry = TrainGeometry(preprocess, 3, None, (1.0, 1.0))
    image = photo(60, 45)
    assert not geometry.varies
    assert torch.equal(geometry(image, 5, 7), preprocess(image))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_fraction": 0.0}, r"crop_fraction \(0.0\) must be in"),
        ({"crop_fraction": 1.2}, r"crop_fraction \(1.2\) must be in"),
        ({"resize": "squash", "crop_fraction": 0.9}, r"\(0.9\) needs resize \(squash\) to be crop"),
        ({"std": (0.5, 0.0, 0.5)}, r"std .* must be positive"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(32, **values)


def test_stored_data_of_another_program_is_refused() -> None:
    values = Preprocess(32).to_dict()
    with pytest.raises(TypeError, match="resize_mode"):
        Preprocess.from_dict({**values, "resize_mode": "crop"})


def test_an_image_that_no_decoder_made_is_a_bug_here() -> None:
    with pytest.raises(AssertionError, match="not LAB"):
        to_bytes(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize("size", [(3, 4000), (4000, 3), (7, 901), (1, 5000), (400, 40)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_strip_is_scaled_in_part_as_it_would_be_whole(
    size: tuple[int, int], interpolation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    preprocess = Preprocess(32, resize="crop", crop_fraction=0.875, interpolation=interpolation)
    whole = preprocess(image).int()
    monkeypatch.setattr(geometry, "MAX_SCALED", 0)
    part = preprocess(image).int()
    if interpolation != "nearest":  # only sums of weights are rounded otherwise
        assert (part - whole).abs().max() <= 1
    else:  # a centre that lies between two pixels may go to either
        assert (part == whole).float().mean() > 0.9


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_a_strip_takes_little_memory(resize: Any) -> None:
    """1 x 1,000,000 pixels at 224: whole it would be 150 GB."""
    pixels = np.zeros((1_000_000, 1, 3), np.uint8)
    pixels[500_000:] = 255
    result = Preprocess(224, resize=resize)(Image.fromarray(pixels))
    assert result.shape == (3, 224, 224)
    column = result[0, :, 112].tolist()
    assert (column[0], column[-1]) == (0, 255)


def test_a_strip_is_squashed_to_the_same_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 5, 3), np.uint8))
    whole = Preprocess(16, resize="squash")(image).int()
    monkeypatch.setattr(geometry, "MAX_SCALED", 0)
    assert (Preprocess(16, resize="squash")(image).int() - whole).abs().max() <= 2
