"""From one run to the next: weights, frozen layers, rates by layer, another size of the images."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.harness import Vtrain
from vtrain import load_model


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


MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
TAKEN = "data.mean=[0.1, 0.2, 0.3] data.std=[0.4, 0.5, 0.6], taken over from config.json beside"


def as_timm_s(checkpoint: Path, mean: tuple[float, ...] = MEAN) -> str:
    """Keep the weights of a run in a folder as timm has them on the hub, and name it."""
    folder = Path("timm")
    folder.mkdir(exist_ok=True)
    torch.save(weights(str(checkpoint.parent)), folder / "pytorch_model.bin")
    stated = {"architecture": "vit", "pretrained_cfg": {"mean": mean, "std": STD}}
    (folder / "config.json").write_text(json.dumps(stated))
    return f"model.pretrained={folder}"


def colours(run: str) -> tuple[object, object]:
    """Return mean and std as the config of a run states them."""
    data = yaml.safe_load(Path(run, "config.yaml").read_text())["data"]
    return data["mean"], data["std"]


def test_mean_and_std_of_the_weights_become_those_of_the_run(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    start = as_timm_s(pretrained)
    checked = vtrain("check", small_run, start)
    assert re.search(rf"^colours +{re.escape(TAKEN)}", checked.out, re.M)
    assert yaml.safe_load(checked.out.partition("\nclasses ")[0])["data"]["mean"] == list(MEAN)
    done = vtrain("fit", small_run, "--run-dir", "new", start, *STEP)
    assert f"colours {TAKEN}" in done.err
    assert colours("new") == (list(MEAN), list(STD))

    loaded = load_model("new")
    image = Image.effect_noise((16, 16), 60).convert("RGB")
    by_hand = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    by_hand = (by_hand - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(loaded.preprocess(image)[0], by_hand, rtol=0, atol=1e-6)
    # Without what lay beside the weights, and without the weights.
    shutil.rmtree("timm")
    assert vtrain("eval", "--ckpt", "new").code == 0
    assert vtrain("fit", "new", "--run-dir", "again", "model.pretrained=null", *STEP).code == 0
    assert colours("again") == (list(MEAN), list(STD))


def test_a_run_goes_on_with_the_mean_and_std_that_it_began_with(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    start = as_timm_s(pretrained)
    assert vtrain("fit", small_run, "--run-dir", "new", start, *STEP).code == 0
    as_timm_s(pretrained, (0.7, 0.7, 0.7))
    more = (*STEP[1:], "train.max_steps=2")
    done = vtrain("fit", small_run, "--run-dir", "new", "--resume", start, *more)
    assert done.code == 0, done.err
    assert colours("new") == (list(MEAN), list(STD))
    assert load_model("new").checkpoint.preprocess["mean"] == MEAN
    other = "data.mean=[0.7, 0.7, 0.7]"
    refused = vtrain("fit", small_run, "--run-dir", "new", "--resume", start, other)
    assert refused.code == 2
    assert "other values of data.mean" in refused.err


def test_a_run_that_began_with_the_dataset_s_own_keeps_them(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    start = as_timm_s(pretrained)
    config = Path("timm/config.json")
    stated = config.read_text()
    config.unlink()
    done = vtrain("fit", small_run, "--run-dir", "new", start, *STEP)
    assert "of the dataset, as the weights do not say theirs" in done.err
    assert colours("new") == (None, None)
    config.write_text(stated)
    more = (*STEP[1:], "train.max_steps=2")
    assert vtrain("fit", small_run, "--run-dir", "new", "--resume", start, *more).code == 0
    assert colours("new") == (None, None)


def test_a_grey_run_takes_the_means_over_the_colours(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    start = as_timm_s(pretrained)
    done = vtrain("fit", small_run, "--run-dir", "new", start, "data.channels=1", *STEP)
    assert done.code == 0, done.err
    mean, std = colours("new")
    assert mean == pytest.approx([0.2])
    assert std == pytest.approx([0.5])


def test_colours_of_three_channels_say_nothing_of_five(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    for split in ("train", "val"):
        for name in ("a", "b", "c"):
            folder = Path("bands", split, name)
            folder.mkdir(parents=True)
            np.save(folder / "x.npy", np.zeros((5, 8, 8), np.uint8))
    bands = "data={name: image_folder, root: bands, image_size: 8, channels: 5}"
    done = vtrain("check", small_run, as_timm_s(pretrained), bands)
    assert done.code == 0, done.err
    assert "of the dataset, as those of the weights are of 3 channels" in done.out


def test_mean_and_std_that_the_user_sets_stay_and_differences_are_told(
    small_run: Path, pretrained: Path, vtrain: Vtrain
) -> None:
    said = "the weights were trained with data.mean="
    for command in (("fit", small_run, *STEP), ("check", small_run)):
        done = vtrain(*command, f"model.pretrained={pretrained}", "data.mean=[0.1, 0.2, 0.3]")
        assert done.code == 0
        assert "this run has data.mean=[0.1, 0.2, 0.3]" in done.err
        assert said in done.err
        assert said not in vtrain(*command, f"model.pretrained={pretrained}").err
