"""`logging.explain`: maps of validation images, beside a training that they leave as it is."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness import Vtrain
from vtrain.callbacks.tensorboard import MAPS_EVERY
from vtrain.explain import draw
from vtrain.explain.methods import METHODS, Request
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference.loaded import load_model

SHOWN = ["logging.tensorboard=true", "logging.explain=5"]
LONGER = [f"train.epochs={MAPS_EVERY + 2}", "augment.mixup=0.5", "model.drop_path_rate=0.1"]
SWIN = (
    "name: swin_t, patch_size: 2, window_size: 4, embed_dim: 16, depths: [1, 1], num_heads: [2, 2]"
)


def maps_of(run: Path) -> list[tuple[int, str]]:
    """The steps of the maps, with what tells pictures apart."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    if "val/explain" not in events.Tags()["images"]:
        return []
    found = events.Images("val/explain")
    return [(one.step, hashlib.sha256(one.encoded_image_string).hexdigest()) for one in found]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = Checkpoint.load(run / "last.pt").state
    averages = {f"ema.{name}": tensor for name, tensor in state["ema"]["weights"].items()}
    return {**state["model"], **averages}


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(first[k].equal(second[k]) for k in first)


@pytest.mark.parametrize("model", [None, SWIN], ids=["vit", "swin"])
def test_training_is_the_same_to_the_bit(
    small_run: Path, vtrain: Vtrain, model: str | None
) -> None:
    if model is not None:
        text = re.sub("model: .*", f"model: {{{model}}}", small_run.read_text())
        small_run.write_text(text)
    for name, extra in (("with", SHOWN), ("without", [])):
        done = vtrain("fit", small_run, *LONGER, *extra, "--run-dir", name)
        assert done.code == 0, done.err
    assert same(Path("with"), Path("without"))
    # 3 steps an epoch: after epoch 5, and at the end of epoch 7.
    assert [step for step, _ in maps_of(Path("with"))] == [3 * MAPS_EVERY, 3 * (MAPS_EVERY + 2)]
    assert not Path("without/tensorboard").exists()


def test_the_maps_are_of_the_averaged_weights_on_validation_images(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[draw.Subject] = []
    sheets = draw.sheets
    monkeypatch.setattr(draw, "sheets", lambda some: shown.extend(some) or sheets(some))
    done = vtrain("fit", small_run, *SHOWN, "--run-dir", "run")
    assert done.code == 0, done.err
    assert len(shown) == 5
    loaded = load_model("run/last.pt")  # the average
    for one in shown:
        image = loaded.preprocess(one.image)
        request = Request(torch.zeros(1, 0, dtype=torch.int64))
        expected = METHODS["rollout"].function(loaded.model, image, request)[0].values[0]
        np.testing.assert_allclose(one.panels[0].values, expected.numpy(), rtol=1e-4)
        likeliest = loaded.model(image).softmax(1).max(1)
        assert one.classes[0][0] == loaded.classes[int(likeliest.indices)]
        assert one.classes[0][1] == pytest.approx(likeliest.values.item(), rel=1e-4)
    assert len({one.name for one in shown}) > 1  # of several classes


def test_a_resumed_run_draws_what_a_whole_one_does(small_run: Path, vtrain: Vtrain) -> None:
    whole = vtrain("fit", small_run, *SHOWN, *LONGER, "--run-dir", "whole")
    assert whole.code == 0, whole.err
    for more in (["train.max_steps=17"], []):
        done = vtrain("fit", small_run, *SHOWN, *LONGER, *more, "--run-dir", "parts", "--resume")
        assert done.code == 0, done.err
    assert same(Path("whole"), Path("parts"))
    once, again = dict(maps_of(Path("whole"))), dict(maps_of(Path("parts")))
    assert once.items() <= again.items()
    assert again.keys() - once.keys() == {17}  # where the first part ended


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logging.explain=4"], "the maps of logging.explain are shown by TensorBoard"),
        ([*SHOWN, "train.parallel=fsdp"], "no process has the whole of a sharded model"),
        ([*SHOWN, "logging.explain=65"], "logging.explain"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "check"])
def test_maps_that_cannot_be_are_refused(
    small_run: Path, vtrain: Vtrain, command: str, overrides: list[str], message: str
) -> None:
    done = vtrain(command, small_run, *overrides)
    assert done.code == 2
    (line,) = done.errors
    assert message in line
    assert not Path("runs").exists()
