from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chi2_contingency, kstest, norm
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from vtrain.data.augment import policies
from vtrain.data.augment.draws import Draw, Stream
from vtrain.data.augment.operations import Choice, Op
from vtrain.data.augment.pixels import Colour
from vtrain.data.augment.policies import (
    AugMix,
    AutoAugment,
    Chain,
    Policy,
    RandAugment,
    ThreeAugment,
    TimmRandAugment,
    TrivialAugmentWide,
)
from vtrain.data.augment.spaces import (
    AUGMIX,
    AUTOAUGMENT,
    RANDAUGMENT,
    TRIVIALAUGMENT,
    Space,
    timm_space,
)
from vtrain.files.images import read_image
from vtrain.rng import uniforms

BLACK = (0, 0, 0)
NEAREST = InterpolationMode.NEAREST  # torchvision 0.26 takes no name for it
NAMES = {  # ours -> torchvision's and timm's
    Op.IDENTITY: "Identity",
    Op.SHEAR_X: "ShearX",
    Op.SHEAR_Y: "ShearY",
    Op.TRANSLATE_X: "TranslateX",
    Op.TRANSLATE_Y: "TranslateY",
    Op.ROTATE: "Rotate",
    Op.POSTERIZE: "Posterize",
    Op.SOLARIZE: "Solarize",
    Op.SOLARIZE_ADD: "SolarizeAdd",
    Op.INVERT: "Invert",
    Op.AUTOCONTRAST: "AutoContrast",
    Op.EQUALIZE: "Equalize",
    Op.BRIGHTNESS: "Brightness",
    Op.CONTRAST: "Contrast",
    Op.SATURATION: "Color",
    Op.SHARPNESS: "Sharpness",
}
OPS = {name: op for op, name in NAMES.items()}
BLENDS = ("Brightness", "Contrast", "Color", "Sharpness")
RIVALS: dict[str, tuple[Any, Any]] = {
    "randaugment": (RandAugment(), v2.RandAugment()),
    "randaugment_hard": (RandAugment(num_ops=3, magnitude=30), v2.RandAugment(3, 30)),
    "trivialaugment_wide": (TrivialAugmentWide(), v2.TrivialAugmentWide()),
    "imagenet": (AutoAugment(), v2.AutoAugment()),
    "cifar10": (AutoAugment(dataset="cifar10"), v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
}


def source(count: int, seed: int = 0) -> Draw:
    return lambda columns: uniforms(torch.arange(count), columns, seed, 0, Stream.POLICY)


def run(policy: Chain, images: Tensor, draw: Draw, mean: Colour = BLACK) -> Tensor:
    return policy.apply(images, policy.draw(draw, images.shape[2:]), mean)


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Record each call's operations and amounts, and still apply them."""
    calls: list[tuple[Tensor, Tensor]] = []
    real = policies.apply

    def apply(images: Tensor, choice: Choice, **how: Any) -> Tensor:
        calls.append((choice.ops, choice.amounts))
        return real(images, choice, **how)

    monkeypatch.setattr(policies, "apply", apply)
    return calls


def magnitude(op: Op, amount: float) -> float:
    """Translate an amount to torchvision's magnitude."""
    if NAMES[op] in BLENDS:
        return amount - 1
    return amount / 255 if op == Op.SOLARIZE else amount


def recorded(transform: Any, count: int) -> Counter[tuple[str, ...]]:
    """Count which operations torchvision's transform applies to an image, in order."""
    names: list[str] = []

    def note(image: Any, name: str, *_: Any, **__: Any) -> Any:
        names.append(name)
        return image

    transform._apply_image_or_video_transform = note
    image, found = torch.zeros(3, 8, 8, dtype=torch.uint8), Counter[tuple[str, ...]]()
    for _ in range(count):
        names.clear()
        transform(image)
        found[tuple(name for name in names if name != "Identity")] += 1
    del transform._apply_image_or_video_transform
    return found


@pytest.mark.parametrize("name", RIVALS)
def test_a_policy_gives_torchvisions_bytes_for_what_it_drew(
    name: str, pictures: Tensor, applied: list[tuple[Tensor, Tensor]]
) -> None:
    policy, rival = RIVALS[name]
    result = run(policy, pictures, source(len(pictures)))
    assert torch.equal(result, replayed(pictures, applied, rival))


def test_real_photographs_become_torchvisions_bytes(
    cifar10: Path, applied: list[tuple[Tensor, Tensor]]
) -> None:
    paths = sorted(cifar10.rglob("*.jpg"))[::200]
    photographs = torch.stack([TF.pil_to_tensor(read_image(path)) for path in paths])
    result = run(RandAugment(), photographs, source(len(photographs)))
    assert torch.equal(result, replayed(photographs, applied, v2.RandAugment()))


def replayed(images: Tensor, applied: list[tuple[Tensor, Tensor]], rival: Any) -> Tensor:
    """Apply what was recorded with torchvision's functions, image by image."""
    results = []
    for i, pixels in enumerate(images):
        image = TF.to_pil_image(pixels)
        for ops, amounts in applied:
            op = Op(int(ops[i]))
            image = rival._apply_image_or_video_transform(
                image, NAMES[op], magnitude(op, float(amounts[i])), NEAREST, rival._fill
            )
        results.append(TF.pil_to_tensor(image))
    return torch.stack(results)


@pytest.mark.parametrize("name", RIVALS)
def test_a_policy_chooses_operations_as_often_as_torchvision(
    name: str, applied: list[tuple[Tensor, Tensor]]
) -> None:
    policy, rival = RIVALS[name]
    theirs = recorded(rival, 2000)
    count = 8000
    run(policy, torch.zeros(count, 3, 1, 1, dtype=torch.uint8), source(count))
    chains = torch.stack([ops for ops, _ in applied], dim=1).tolist()
    ours = Counter(tuple(NAMES[Op(op)] for op in chain if op != Op.IDENTITY) for chain in chains)
    common = [key for key in theirs if theirs[key] + ours[key] >= 25]
    table = [[counts[key] for key in common] for counts in (theirs, ours)]
    for row, counts in zip(table, (theirs, ours), strict=True):
        row.append(counts.total() - sum(row) + 1)  # what is rare, together
    assert chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize(
    ("space", "rival"),
    [
        (RANDAUGMENT, v2.RandAugment),
        (TRIVIALAUGMENT, v2.TrivialAugmentWide),
        (AUTOAUGMENT, v2.AutoAugment),
        (AUGMIX, v2.AugMix),
    ],
)
def test_the_operations_and_all_their_amounts_are_torchvisions(space: Space, rival: Any) -> None:
    theirs = rival._AUGMENTATION_SPACE
    assert {NAMES[op] for op in space.ops} == set(theirs)
    for op in space.ops:
        plus, minus = space.plus_minus(op, 32, 224)
        table, signed = theirs[NAMES[op]]
        magnitudes = table(space.steps, 32, 224)
        if magnitudes is None:
            continue
        if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
            magnitudes = magnitudes.trunc()
        want = magnitudes.double()
        assert [magnitude(op, x) for x in plus.tolist()] == pytest.approx(want.tolist())
        assert [magnitude(op, x) for x in minus.tolist()] == pytest.approx(
            (-want if signed else want).tolist()
        )


def test_signs_and_strengths_are_uniform(applied: list[tuple[Tensor, Tensor]]) -> None:
    count = 20_000
    run(TrivialAugmentWide(), torch.zeros(count, 3, 1, 1, dtype=torch.uint8), source(count))
    ops, amounts = applied[0]
    angles = amounts[ops == Op.ROTATE]
    steps = ((angles + 135) / 4.5).round().long()  # 61 values; 0 has both signs
    observed = torch.bincount(steps, minlength=61).double()
    observed[30] /= 2
    chi2 = ((observed - observed.sum() / 61) ** 2 / (observed.sum() / 61)).sum()
    assert len(observed) == 61
    assert chi2 < 92  # the 99.5 % quantile for 60 degrees of freedom


def test_timms_amounts_at_each_level() -> None:
    timm = pytest.importorskip("timm.data.auto_augment")
    names = dict.fromkeys(timm._RAND_INCREASING_TRANSFORMS)
    rows = timm_space(20, 10)
    assert len(rows) == len(names)
    for op, start, change, is_signed in rows.tolist():
        name = NAMES[Op(int(op))]
        variant = next(n for n in names if n.removesuffix("Increasing").removesuffix("Rel") == name)
        to_argument = timm.LEVEL_TO_ARG[variant]
        if to_argument is None:
            continue
        side = {"TranslateX": 10, "TranslateY": 20}.get(name, 1)
        for level in (0, 3.3, 9, 10):
            want = side * to_argument(level, {})[0]
            ours = {start + s * change * level / 10 for s in (-1, 1)}
            if not is_signed:
                ours = {start + int(change * level / 10)}
            assert any(want == pytest.approx(x) for x in ours), (name, level)


def test_timms_policy_applies_half_of_the_operations_at_normal_strengths(
    applied: list[tuple[Tensor, Tensor]],
) -> None:
    count = 30_000
    policy = TimmRandAugment(magnitude=5, magnitude_std=1.0, num_ops=1)
    run(policy, torch.zeros(count, 3, 1, 1, dtype=torch.uint8), source(count))
    ops, amounts = applied[0]
    assert (ops == Op.IDENTITY).float().mean() == pytest.approx(0.5, abs=0.01)
    angles = amounts[ops == Op.ROTATE]
    assert (angles < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert kstest(angles.abs() / 3, norm(5, 1).cdf).pvalue > 0.01


def test_timms_policy_fills_with_the_mean_colour() -> None:
    images = torch.full((64, 3, 8, 8), 255, dtype=torch.uint8)
    result = run(TimmRandAugment(probability=1.0), images, source(64), (1, 2, 3))
    corners = result[:, :, 0, 0].tolist()
    assert [1, 2, 3] in corners


def test_three_augment_takes_each_of_three_in_a_third_of_the_cases(
    applied: list[tuple[Tensor, Tensor]],
) -> None:
    count = 9000
    run(ThreeAugment(), torch.zeros(count, 3, 1, 1, dtype=torch.uint8), source(count))
    ops, amounts = applied[0]
    for op in (Op.SATURATION, Op.SOLARIZE, Op.BLUR):
        assert (ops == op).float().mean() == pytest.approx(1 / 3, abs=0.02)
    assert set(amounts[ops == Op.SATURATION].tolist()) == {0.0}  # grey
    assert kstest((amounts[ops == Op.BLUR] - 0.1) / 1.9, "uniform").pvalue > 0.01


def test_augmix_blends_the_chains_as_torchvision_does(
    pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With operations that leave the image alone, all weights must add up to one image."""
    monkeypatch.setattr(policies, "apply", lambda images, *_, **__: images)
    result = run(AugMix(), pictures, source(len(pictures)))
    assert (result.int() - pictures.int()).abs().max() <= 1  # the sum is cut, not rounded


def test_augmixs_weights_are_uniform_on_their_simplex(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chain i turns an image of 0 to 255: what is seen is the weight of that chain."""
    count, chains = 4000, 3
    black = torch.zeros(count, 3, 1, 1, dtype=torch.uint8)
    calls = []

    def first_chain_is_white(images: Tensor, *_: Any, **__: Any) -> Tensor:
        calls.append(images)
        return images if len(calls) > 3 else torch.full_like(images, 255)

    monkeypatch.setattr(policies, "apply", first_chain_is_white)
    seen = run(AugMix(mixture_width=chains), black, source(count))[:, 0, 0, 0].double() / 255
    theirs = torch._sample_dirichlet(torch.ones(count, chains))[:, 0]
    theirs = theirs * torch.rand(count)
    assert kstest(seen + torch.rand(count).double() / 255, theirs.double()).pvalue > 0.01


def test_augmix_is_close_to_torchvisions_range(pictures: Tensor) -> None:
    """The mean change of a picture is that of torchvision's AugMix, by another draw."""
    theirs = v2.AugMix(interpolation=InterpolationMode.BILINEAR)
    smooth = pictures[11:]
    ours = [run(AugMix(), smooth, source(len(smooth), seed)) for seed in range(20)]
    rival = [torch.stack([theirs(p) for p in smooth]) for _ in range(20)]
    change = [
        torch.stack([(x.float() - smooth.float()).abs().mean((1, 2, 3)) for x in results])
        for results in (ours, rival)
    ]
    assert change[0].mean() == pytest.approx(float(change[1].mean()), rel=0.1)


def test_a_policys_name_alone_stands_for_its_defaults() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Policy)
    assert adapter.validate_python("randaugment") == RandAugment()
    assert adapter.validate_json('{"name": "augmix", "severity": 5}') == AugMix(severity=5)


@pytest.mark.parametrize(
    "value",
    [
        "randaugmant",
        {"magnitude": 3},
        {"name": "trivialaugment_wide", "magnitude": 3},
        {"name": "randaugment", "magnitude": 31},
        {"name": "randaugment", "num_ops": 0},
        {"name": "timm_randaugment", "magnitude": 10.5},
        {"name": "timm_randaugment", "magnitude_std": -1},
        {"name": "autoaugment", "dataset": "mnist"},
        {"name": "augmix", "severity": 0},
    ],
)
def test_a_policy_refuses_what_it_does_not_know(value: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Policy)
    with pytest.raises(ValidationError):
        adapter.validate_python(value)
