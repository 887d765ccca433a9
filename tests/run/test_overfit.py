"""Memorising a few images."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import stated
from tests.harness import Vtrain
from tests.run.test_keys import FLIPS
from vtrain.config import load_config
from vtrain.registry import MODELS
from vtrain.run import overfit
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.overfit import memorising, shortened

ALL_ON = (
    "augment={crop: resized, mixup: 1, cutmix: 1, horizontal_flip: 1, vertical_flip: 1, hue: 0.5, "
    "policy: {name: randaugment}, brightness: 1, contrast: 1, saturation: 1, grey: 1, solarize: 1, "
    "blur: 1, erasing: 1, transforms: [{name: RandomInvert, p: 1.0}]}"
)
LR = "optimizer.lr=0.003"  # these are narrow
ONE_OF_EACH = {MODELS[name].constructor: name for name in MODELS.names()}
FAMILIES = ["deit_ti_distilled", *ONE_OF_EACH.values()]


def test_a_model_memorises_and_no_run_is_left(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--overfit", "8", "optimizer.lr=0.01")
    assert done.code == 0
    assert done.err.splitlines()[-1].endswith("8 of 8 images are memorised")
    assert not Path("runs").exists()


def test_what_does_not_learn_is_told(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit, "STEPS", 30)
    done = vtrain("fit", small_run, "--overfit", "8", "optimizer.lr=1e-9")
    assert done.code == 2
    assert "of 8 images were memorised after step 30 (train): what cannot do that" in done.err


AUGMENT = [f"{key}={value}" for key, value in FLIPS.items() if key.startswith("augment.")]


@pytest.mark.parametrize("changes", [[ALL_ON], AUGMENT, *([change] for change in AUGMENT)], ids=str)
def test_images_and_targets_are_left_as_they_are(small_run: Path, changes: list[str]) -> None:
    """Whatever each key of `augment` is set to: `FLIPS` has them all."""
    config = memorising(load_config(small_run, [*changes, "model.drop_path_rate=0.5"]), 8)
    parts = build_parts(resolve(config))
    batch = next(parts.train_loader.batches(0))
    images, targets = parts.input(batch, step=0, epoch=0)
    torch.testing.assert_close(
        images, parts.preprocess.normalise(parts.plan.train.array[batch.indices])
    )
    assert targets is batch.targets
    assert config.model.drop_path_rate == 0
    assert len(batch.images) == 8


def test_a_batch_may_be_smaller_than_the_images(small_run: Path) -> None:
    plan = shortened(resolve(memorising(load_config(small_run, ["train.batch_size=10"]), 35)))
    assert plan.batch_size == 10
    assert plan.config.train.epochs * 4 >= overfit.STEPS
    assert plan.config.train.eval_every * 4 >= overfit.EVERY


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_memorises_32_photographs(
    small_run: Path, vtrain: Vtrain, cifar10: Path, name: str
) -> None:
    model = json.dumps({"name": name, **stated(name, "TINY")})
    data = json.dumps({"name": "image_folder", "root": str(cifar10), "image_size": 32})
    done = vtrain("fit", small_run, "--overfit", "32", f"model={model}", f"data={data}", ALL_ON, LR)
    assert done.code == 0, done.err
    assert "32 of 32 images are memorised" in done.err
