"""From one run to the next: weights, frozen layers, rates by layer, another size of the images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.harness import Vtrain


def weights(run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(f"{run}/last.pt", weights_only=True)["state"][
        "model"
    ]
    return state


@pytest.fixture
def pretrained(small_run: Path, vtrain: Vtrain) -> Path:
    """The last checkpoint of a run, without an average: its weights are the model's."""
    assert vtrain("fit", small_run, "--run-dir", "old", "train.ema_decay=null").code == 0
    return Path("old/last.pt")


STEP = ("train.max_steps=1", "train.ema_decay=null", "schedule={name: constant}")


def test_frozen_layers_stay_and_higher_layers_move_further(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    done = vtrain(
        "fit", small_run, "--run-dir", "new", f"model.pretrained={pretrained}", *STEP,
        "model.freeze=1", "optimizer.layer_decay=0.1", "optimizer.weight_decay=0",
        "train.grad_clip_norm=null",
    )  # fmt: skip
    assert done.code == 0, done.err
    before, after = weights("old"), weights("new")
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
    assert {name.split(".attn")[0].split(".mlp")[0] for name, far in moved.items() if far} == {
        "blocks.1", "norm.weight", "norm.bias", "head.weight", "head.bias",
        "blocks.1.norm1.weight", "blocks.1.norm1.bias",
        "blocks.1.norm2.weight", "blocks.1.norm2.bias",
    }  # fmt: skip
    # Adam's first step is as long as the rate of its layer: 1e-3 for the head, a tenth below it.
    assert moved["head.weight"] == pytest.approx(1e-3, rel=0.01)
    assert moved["blocks.1.mlp.fc1.weight"] == pytest.approx(1e-4, rel=0.01)


def test_other_classes_get_a_new_head_even_if_there_are_as_many(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    for number, name in enumerate("abcd"):
        for split in ("train", "val"):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(folder / "x.png")
    photos = "data={name: image_folder, root: photos, image_size: 16}"
    weights = f"model.pretrained={pretrained}"
    done = vtrain("fit", small_run, "--run-dir", "new", photos, weights, *STEP)
    assert done.code == 0
    assert "2 new (head.weight, head.bias)" in done.err


def test_the_images_may_have_another_size(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    larger = ("data.image_size=24", "data.size=24", f"model.pretrained={pretrained}")
    done = vtrain("fit", small_run, "--run-dir", "new", *larger, *STEP)
    assert done.code == 0
    assert "1 resized (pos_embed)" in done.err
    assert weights("new")["pos_embed"].shape == (1, 1 + 6 * 6, 32)


def test_weights_of_another_model_are_refused(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    done = vtrain("fit", small_run, f"model.pretrained={pretrained}", "model.depth=3")
    assert done.code == 4
    assert "the weights do not fit the model: 12 absent (blocks.2.norm1.weight" in done.err


def test_weights_of_other_colours_are_told_by_fit_and_check(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    said = "the weights were trained with data.mean="
    for command in (("fit", small_run, *STEP), ("check", small_run)):
        done = vtrain(*command, f"model.pretrained={pretrained}", "data.mean=[0.1, 0.2, 0.3]")
        assert done.code == 0
        assert "this run has data.mean=[0.1, 0.2, 0.3]" in done.err
        assert said in done.err
        assert said not in vtrain(*command, f"model.pretrained={pretrained}").err
