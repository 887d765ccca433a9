"""Run folders that earlier versions left behind still load, evaluate and go on as they would have.

`tests/old_runs/README.md` says how they were made.
"""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.harness import Vtrain
from vtrain.files.checkpoint import Checkpoint

OLD = sorted(path.parent for path in Path("tests/old_runs").resolve().glob("*/interrupted.tar.xz"))
ROUNDING = 2.0**-24
"""Half a unit in the last place of fp32: the relative error of one rounded operation."""


@pytest.fixture(params=OLD, ids=lambda old: old.name)
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack an old run as `run` in an empty folder, and return where what it gave is kept."""
    monkeypatch.chdir(tmp_path)
    with tarfile.open(request.param / "interrupted.tar.xz") as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4 on
        archive.extractall(**safely)  # hard links too: last.pt and best.pt are further names
    folder: Path = request.param
    return folder


def test_there_is_one(vtrain: Vtrain) -> None:
    assert OLD


def test_its_checkpoints_are_intact_and_have_every_field(old: Path, vtrain: Vtrain) -> None:
    verified = vtrain("verify", "run")
    assert verified.code == 0
    assert "damaged" not in verified.out
    assert "a resume goes on from step 33" in verified.out
    for path in sorted(Path("run").glob("*.pt")):
        assert Checkpoint.load(path).state["ema"] is not None


def test_it_evaluates_to_the_same_digits(old: Path, vtrain: Vtrain) -> None:
    done = vtrain("eval", "--ckpt", "run/last.pt", "--json")
    assert done.code == 0
    found, expected = json.loads(done.out), json.loads((old / "eval.json").read_text())
    del found["per_class"]  # later versions say it, too
    # Counts of images are exact. The loss of an image passes some 30 rounded operations in a row
    # (the longest sums have 48 terms, in an order that is the processor's), each of which may
    # round otherwise; the mean over the images is no worse than the worst image.
    assert found == pytest.approx(expected, rel=100 * ROUNDING)
    assert (found["val/top1"], found["val/top5"]) == (expected["val/top1"], expected["val/top5"])


def test_it_predicts(old: Path, vtrain: Vtrain) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), (90, 90, 90)).save("grey.png")
    assert vtrain("predict", "grey.png", "--ckpt", "run").code == 0


def test_a_new_run_starts_from_its_weights(old: Path, vtrain: Vtrain) -> None:
    done = vtrain(
        *("fit", "run/config.yaml", "--run-dir", "new", "train.max_steps=1"),
        "model.pretrained=run/last.pt",
    )
    assert done.code == 0
    assert "weights vtrain: 19 tensors loaded" in done.err


def test_it_goes_on_to_the_weights_of_the_run_that_was_not_interrupted(
    old: Path, vtrain: Vtrain
) -> None:
    done = vtrain("fit", "run/config.yaml", "--run-dir", "run", "--resume")
    assert done.code == 0
    state = Checkpoint.load(Path("run/last.pt")).state
    wholes = [load_file(path) for path in sorted(old.glob("finished*.safetensors"))]
    weights = {f"model.{name}": tensor for name, tensor in state["model"].items()}
    weights |= {f"ema.{name}": tensor for name, tensor in state["ema"]["weights"].items()}
    # On a processor that made one, bit for bit. Elsewhere fp32 kernels add in another order: a
    # difference of one or two units in the last place in the weights at step 33 grows to 2.5e-4 of
    # a tensor's norm in the 17 steps that are left (the largest of three such starts), and other
    # libraries of products to 4.3e-3, between AMD and Intel; a forgotten average shows as 3.6e-3
    # and forgotten moments of AdamW as 0.16.
    assert all(weights.keys() == whole.keys() for whole in wholes)
    assert any(
        all(torch.dist(weights[name], whole[name]) <= 1e-3 * whole[name].norm() for name in whole)
        for whole in wholes
    )
    rows, expected = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (Path("run/metrics.jsonl"), old / "finished.jsonl")
    )
    assert [(row.keys(), row["step"], row["epoch"]) for row in rows] == [
        (row.keys(), row["step"], row["epoch"]) for row in expected
    ]
