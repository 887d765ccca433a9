from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.data.augment.flat import augment_of
from vtrain.data.augment.worker_transforms import WorkerTransform
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry

MEAN = STD = (0.5, 0.5, 0.5)


def geometry(*transforms: dict[str, Any], seed: int = 0) -> TrainGeometry:
    chosen = tuple(WorkerTransform(**t) for t in transforms)
    return augment_of(16, MEAN, STD, seed, transforms=chosen).geometry(Preprocess(16))


NOISE = Image.effect_noise((16, 16), 90).convert("RGB")


def test_a_transform_by_name_is_torchvisions() -> None:
    from torchvision.transforms import v2

    prepare = geometry(
        {"name": "RandomInvert", "p": 1.0}, {"name": "RandomPosterize", "bits": 2, "p": 1.0}
    )
    pixels = Preprocess(16)(NOISE)
    want = v2.functional.posterize(v2.functional.invert(pixels), 2)
    assert torch.equal(prepare(NOISE, 0, 0), want)


def test_a_transform_depends_on_seed_epoch_and_index_alone() -> None:
    erasing = {"name": "RandomErasing", "p": 1.0}
    first = geometry(erasing)(NOISE, 3, 5)
    torch.rand(7)
    assert torch.equal(geometry(erasing)(NOISE, 3, 5), first)
    for other in (
        geometry(erasing, seed=1)(NOISE, 3, 5),
        geometry(erasing)(NOISE, 4, 5),
        geometry(erasing)(NOISE, 3, 6),
    ):
        assert not torch.equal(other, first)


def test_the_global_generator_does_not_notice() -> None:
    before = torch.get_rng_state()
    geometry({"name": "RandomErasing", "p": 1.0})(NOISE, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_results_of_random_transforms_are_not_kept() -> None:
    assert geometry({"name": "RandomErasing"}).varies
    assert not geometry().varies


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'RandomErasing'"):
        WorkerTransform(name="RandomErasin")


def test_an_unknown_argument_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValidationError, match="unexpected keyword argument 'probability'"):
        WorkerTransform(name="RandomErasing", probability=0.5)


def test_a_value_that_torchvision_refuses_names_the_transform() -> None:
    with pytest.raises(ValueError, match="transforms: RandomErasing: Scale should be"):
        geometry({"name": "RandomErasing", "scale": (0.5, 1.5)})


@pytest.mark.parametrize(
    "transform",
    [
        {"name": "Resize", "size": (8, 8)},
        {"name": "ConvertImageDtype", "dtype": torch.float32},
        {"name": "ToPILImage"},
    ],
)
def test_a_transform_must_keep_shape_and_type(transform: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"transforms: {transform['name']} gives .* uint8"):
        geometry(transform)
