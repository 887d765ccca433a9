import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, chisquare, kstest
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from tests.data.augment.flat import augment_of
from vtrain.config import config_from_text
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.operations import Choice, Op, apply
from vtrain.data.augment.policies import (
    AugMix,
    AutoAugment,
    RandAugment,
    ThreeAugment,
    TimmRandAugment,
    TrivialAugmentWide,
)
from vtrain.data.preprocess import Preprocess
from vtrain.errors import ConfigError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
OFF: dict[str, Any] = {"crop": "none", "horizontal_flip": 0.0}
EVERYTHING: dict[str, Any] = {
    "vertical_flip": 0.5,
    "policy": TimmRandAugment(),
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grey": 0.2,
    "solarize": 0.2,
    "blur": 0.2,
    "erasing": 0.5,
    "erasing_value": "pixel",
}


def make(size: int = 32, seed: int = 0, **keys: Any) -> Augment:
    return augment_of(size, MEAN, STD, seed, **keys)


def everything(policy: Any, crop: Any) -> Augment:
    return augment_of(
        24, MEAN, STD, 0, "bicubic", False, crop=crop, **EVERYTHING | {"policy": policy}
    )


def to_bytes(images: Tensor) -> Tensor:
    return Preprocess(32, mean=MEAN, std=STD).denormalise(images)


def images(count: int = 64, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def test_nothing_but_normalisation_equals_torchvisions() -> None:
    x = images()
    want = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(x)
    torch.testing.assert_close(make(**OFF)(x, torch.arange(64), 0), want)


every_policy = pytest.mark.parametrize(
    "policy",
    [
        TimmRandAugment(),
        RandAugment(),
        TrivialAugmentWide(),
        AutoAugment(),
        AugMix(),
        ThreeAugment(),
    ],
)


@pytest.mark.parametrize("crop", ["pad", "resized"])
@every_policy
def test_a_sample_looks_the_same_in_any_batch(policy: Any, crop: Any) -> None:
    augment = everything(policy, crop)
    x, indices = images(48, 24), torch.randperm(1000)[:48]
    together = augment(x, indices, 3)
    order = torch.randperm(48)
    apart = [augment(x[part], indices[part], 3) for part in order.tensor_split([1, 6, 30])]
    assert torch.equal(torch.cat(apart), together[order])


def test_seed_epoch_and_index_change_the_sample_and_nothing_else_does() -> None:
    x, indices = images(), torch.arange(64)
    first = make(**EVERYTHING)(x, indices, 0)
    torch.rand(5)
    assert torch.equal(make(**EVERYTHING)(x, indices, 0), first)
    for other in (
        make(seed=1, **EVERYTHING)(x, indices, 0),
        make(**EVERYTHING)(x, indices, 1),
        make(**EVERYTHING)(x, indices + 64, 0),
    ):
        assert ((other - first).abs().amax((1, 2, 3)) > 0).float().mean() > 0.9


def test_the_given_images_are_not_changed() -> None:
    x = images()
    before = x.clone()
    make(**EVERYTHING)(x, torch.arange(64), 0)
    assert torch.equal(x, before)


def test_pad_and_crop_takes_every_window_equally_often_as_torchvision_pads_it() -> None:
    x = images(1, 8)
    windows = [TF.crop(TF.pad(x[0], [2]), top, left, 8, 8) for top in range(5) for left in range(5)]
    count = 5000
    augment = make(8, crop_padding=2, horizontal_flip=0.0)
    results = to_bytes(augment(x.expand(count, -1, -1, -1), torch.arange(count), 0))
    which = (results[:, None] == torch.stack(windows)).all((2, 3, 4))
    assert (which.sum(1) == 1).all()
    assert chisquare(which.sum(0)).pvalue > 0.01


@pytest.mark.parametrize(
    ("key", "flip"),
    [("horizontal_flip", TF.horizontal_flip), ("vertical_flip", TF.vertical_flip)],
)
def test_a_flip_is_torchvisions_and_as_frequent_as_asked(
    key: str, flip: Callable[[Tensor], Tensor]
) -> None:
    x, count = images(1, 8), 2000
    augment = make(8, **OFF | {key: 0.3})
    results = to_bytes(augment(x.expand(count, -1, -1, -1), torch.arange(count), 0))
    flipped = (results == flip(x)).all(3).all(2).all(1)
    assert ((results == x).all(3).all(2).all(1) | flipped).all()
    assert binomtest(int(flipped.sum()), count, 0.3).pvalue > 0.01


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_resized_on_the_device_is_the_one_of_the_workers(interpolation: Any) -> None:
    x = torch.nn.functional.interpolate(images(64, 9).float(), (40, 36), mode="bicubic")
    x = x.clamp(0, 255).to(torch.uint8)
    keys: dict[str, Any] = {"crop": "resized", "horizontal_flip": 0.0}
    there = augment_of(24, MEAN, STD, 0, interpolation, cropped=True, **keys)
    prepare = there.geometry(Preprocess(24, interpolation=interpolation))
    want = torch.stack([prepare(TF.to_pil_image(x[i]), i, 5) for i in range(64)])
    here = augment_of(24, MEAN, STD, 0, interpolation, cropped=False, **keys)
    got = to_bytes(here(x, torch.arange(64), 5))
    # Some versions of Pillow scale rows before columns where that is less work.
    assert (got.int() - want.int()).abs().max() <= 2
    assert (got == want).float().mean() > 0.95


def test_the_workers_leave_the_crop_to_the_device_only_if_told() -> None:
    keys: dict[str, Any] = {"crop": "resized"}
    preprocess = Preprocess(24)
    assert augment_of(24, MEAN, STD, 0, cropped=True, **keys).geometry(preprocess).varies
    assert not augment_of(24, MEAN, STD, 0, cropped=False, **keys).geometry(preprocess).varies
    assert not make(24).geometry(preprocess).varies


def test_jitter_draws_uniform_amounts_and_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from vtrain.data.augment import colour as module

    calls: list[tuple[Tensor, Tensor]] = []

    def apply(x: Tensor, choice: Choice, **_: Any) -> Tensor:
        calls.append((choice.ops, choice.amounts))
        return x

    monkeypatch.setattr(module, "apply", apply)
    jitter = {"brightness": 0.4, "contrast": 2.0, "saturation": 0.5, "hue": 0.1}
    make(2, **OFF, **jitter)(images(2400, 2), torch.arange(2400), 0)
    ops, amounts = (torch.stack(column, dim=1) for column in zip(*calls, strict=True))
    orders, counts = torch.unique(ops, dim=0, return_counts=True)
    assert len(orders) == 24
    assert chisquare(counts).pvalue > 0.01
    ranges = {  # torchvision's ColorJitter: factors around 1, but never negative
        Op.BRIGHTNESS: (0.6, 0.8),
        Op.CONTRAST: (0.0, 3.0),
        Op.SATURATION: (0.5, 1.0),
        Op.HUE: (-0.1, 0.2),
    }
    for op, (low, length) in ranges.items():
        assert kstest(amounts[ops == op], "uniform", (low, length)).pvalue > 0.01


def test_jitter_gives_torchvisions_bytes_for_what_it_drew(
    pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtrain.data.augment import colour as module

    calls: list[tuple[Tensor, Tensor]] = []

    def recorded(x: Tensor, choice: Choice, **how: Any) -> Tensor:
        calls.append((choice.ops, choice.amounts))
        return apply(x, choice, **how)

    monkeypatch.setattr(module, "apply", recorded)
    augment = make(**OFF, brightness=0.4, contrast=0.4, saturation=0.4)
    pictures = pictures[:, :, :32, :32]
    results = to_bytes(augment(pictures, torch.arange(48), 0))
    adjust = {
        Op.BRIGHTNESS: TF.adjust_brightness,
        Op.CONTRAST: TF.adjust_contrast,
        Op.SATURATION: TF.adjust_saturation,
    }
    for i, picture in enumerate(pictures):
        image = TF.to_pil_image(picture)
        for ops, amounts in calls:
            image = adjust[Op(int(ops[i]))](image, float(amounts[i]))
        assert torch.equal(results[i], TF.pil_to_tensor(image))


@pytest.mark.parametrize(
    ("key", "want"),
    [
        ("grey", lambda image: TF.rgb_to_grayscale(image, 3)),
        ("solarize", lambda image: TF.solarize(image, 128)),
    ],
)
def test_grey_and_solarize_are_torchvisions(
    key: str, want: Callable[[Any], Any], pictures: Tensor
) -> None:
    pictures = pictures[:, :, :32, :32]
    results = to_bytes(make(**OFF | {key: 0.5})(pictures, torch.arange(48), 0))
    changed = 0
    for picture, result in zip(pictures, results, strict=True):
        expected = TF.pil_to_tensor(want(TF.to_pil_image(picture)))
        assert torch.equal(result, expected) or torch.equal(result, picture)
        changed += int(torch.equal(result, expected))
    assert 15 < changed < 33


def test_a_blur_has_the_probability_and_strengths_asked_for() -> None:
    noise = images(1, 32).expand(400, -1, -1, -1)
    results = to_bytes(make(**OFF, blur=0.4, blur_sigma=(1.0, 1.5))(noise, torch.arange(400), 0))
    contrast = results.double().std((1, 2, 3))
    blurred = contrast < noise[0].double().std() - 1
    low, high = (
        TF.gaussian_blur(noise[0], [13, 13], [sigma] * 2).double().std() for sigma in (1.5, 1.0)
    )
    assert ((contrast[blurred] > low - 0.5) & (contrast[blurred] < high + 0.5)).all()
    assert binomtest(int(blurred.sum()), 400, 0.4).pvalue > 0.01


@pytest.mark.gpu
def test_a_gpu_gives_the_same_images_as_the_cpu() -> None:
    x, indices = images(), torch.arange(64)
    for keys in (EVERYTHING, EVERYTHING | {"crop": "resized", "policy": AugMix()}):
        augment = augment_of(32, MEAN, STD, 0, "bicubic", False, **keys)
        here, there = (to_bytes(augment(x.to(d), indices, 0).cpu()) for d in ("cpu", "cuda"))
        assert (here.int() - there.int()).abs().max() <= 2
        assert (here == there).float().mean() > 0.99


@pytest.mark.parametrize(
    "keys",
    [
        {"horizontal_flip": 1.5},
        {"crop": "random"},
        {"crop_padding": -1},
        {"crop_scale": (0.5, 0.2)},
        {"crop_scale": (0.0, 1.0)},
        {"erasing_ratio": (3.0, 0.3)},
        {"hue": 0.6},
        {"brightness": -0.1},
        {"blur_sigma": (0.0, 1.0)},
        {"erasing_value": "noise"},
        {"gray": 0.2},
    ],
)
def test_a_value_out_of_range_is_refused_by_the_schema(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{next(iter(keys))}"):
        config_from_text(MINIMAL.format(augment=json.dumps(keys)), "run.yaml")


def test_a_crop_that_the_device_cannot_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"interpolation \(nearest\) must be one of bilinear"):
        augment_of(32, MEAN, STD, 0, "nearest", False, crop="resized")


def test_images_of_another_size_are_a_bug_here() -> None:
    with pytest.raises(AssertionError, match=r"gave \(16, 16\), not \(32, 32\)"):
        make(32)(images(2, 16), torch.arange(2), 0)


MINIMAL = """
model: {{name: vit_ti}}
data: {{name: fake}}
optimizer: {{name: adamw, lr: 1e-3}}
train: {{epochs: 1}}
augment: {augment}
"""


def test_the_config_reports_mistakes_in_the_policy_by_line(tmp_path: Any) -> None:
    from vtrain.config import load_config

    config = tmp_path / "run.yaml"
    config.write_text(
        "model: {name: vit_ti}\ndata: {name: fake}\noptimizer: {name: adamw, lr: 1e-3}\n"
        "train: {epochs: 1}\naugment:\n  policy:\n    name: randaugmant\n  erasing: 2\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(config)
    message = str(caught.value)
    assert "augment.policy" in message
    assert "run.yaml:8" in message
