"""Runs that train low-rank updates: what is saved, what is evaluated, and that they go on."""

import json
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain, interrupt
from vtrain.inference.loaded import load_model

LORA = "model.lora={rank: 2, alpha: 4, mlp: true}"


@pytest.fixture
def start(small_run: Path, vtrain: Vtrain) -> tuple[object, ...]:
    """The arguments of a run that starts from another one's weights."""
    assert vtrain("fit", small_run, "--run-dir", "old").code == 0
    return ("fit", small_run, "model.pretrained=old/best.pt", LORA)


def content(run: str, name: str = "last.pt") -> dict[str, object]:
    loaded: dict[str, object] = torch.load(f"{run}/{name}", weights_only=True)
    return loaded


def test_a_run_leaves_an_ordinary_checkpoint_of_changed_weights(
    start: tuple[object, ...], vtrain: Vtrain
) -> None:
    done = vtrain(*start, "--run-dir", "new")
    assert done.code == 0, done.err
    assert "lora    rank 2 in 8 layers" in done.err
    old = load_model("old").checkpoint.weights
    saved = content("new")
    assert saved["model"]["arguments"] == content("old")["model"]["arguments"]
    for weights in (saved["state"]["model"], saved["state"]["ema"]["weights"]):
        assert weights.keys() == old.keys()
        moved = {name for name in old if not torch.equal(weights[name], old[name])}
        assert moved == {"head.weight", "head.bias"} | {
            f"blocks.{i}.{layer}.weight"
            for i in (0, 1)
            for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        }
    # The update is of that rank.
    change = saved["state"]["model"]["blocks.0.mlp.fc1.weight"] - old["blocks.0.mlp.fc1.weight"]
    values = torch.linalg.svdvals(change.double())
    assert values[1] > 1e-6
    assert values[2] < 1e-6
    # And what evaluates it says to the bit what the run itself did, of the average.
    final = json.loads(Path("new/summary.json").read_text())["final"]
    figures = json.loads(vtrain("eval", "--ckpt", "new/last.pt", "--json").out)
    assert {name: figures[name] for name in ("val/loss", "val/top1")} == {
        name: final[name] for name in ("val/loss", "val/top1")
    }


def test_the_average_is_of_the_factors(start: tuple[object, ...], vtrain: Vtrain) -> None:
    assert vtrain(*start, "--run-dir", "new", "train.epochs=1").code == 0
    state = content("new")["state"]
    key = "blocks.1.attn.qkv.parametrizations.weight"
    fixed = state["lora"]["model"][f"{key}.original"]
    factors = state["lora"]["ema"]
    expected = fixed + 2 * factors[f"{key}.0.lora_b"] @ factors[f"{key}.0.lora_a"]
    found = state["ema"]["weights"]["blocks.1.attn.qkv.weight"]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(factors[f"{key}.0.lora_b"], state["lora"]["model"][f"{key}.0.lora_b"])


@pytest.mark.parametrize("ema", ["0.9", "null"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    start: tuple[object, ...], vtrain: Vtrain, ema: str
) -> None:
    start = (*start, f"train.ema_decay={ema}")
    assert vtrain(*start, "--run-dir", "whole").code == 0
    assert vtrain(*start, "--run-dir", "parts", "train.max_steps=2").code == 0
    interrupt("parts")
    Path("old/best.pt").unlink()  # what it began with is not asked for again
    done = vtrain("fit", "parts", "--resume", "train.max_steps=null")
    assert done.code == 0, done.err
    whole, in_parts = content("whole")["state"], content("parts")["state"]
    assert whole["step"] == in_parts["step"] == 6
    for group in ("model", "lora"):
        one, other = whole[group], in_parts[group]
        pairs = [(one, other)] if group == "model" else [(one[k], other[k]) for k in one]
        for mine, theirs in pairs:
            assert (mine is None) == (theirs is None)
            for name in mine or ():
                assert torch.equal(mine[name], theirs[name])


def test_check_counts_what_is_trained(start: tuple[object, ...], vtrain: Vtrain) -> None:
    done = vtrain("check", *start[1:])
    assert done.code == 0, done.err
    D, hidden, K = 32, 128, 4
    factors = 2 * 2 * ((D + 3 * D) + (D + D) + 2 * (D + hidden))  # two blocks of rank 2
    assert f"({factors + K * D + K:,} trained)" in done.out


def test_the_weights_of_such_a_run_start_another_one_and_are_exported(
    start: tuple[object, ...], vtrain: Vtrain
) -> None:
    assert vtrain(*start, "--run-dir", "new", "train.max_steps=2").code == 0
    more = (*start[:2], "model.pretrained=new/last.pt", "train.max_steps=1", "--run-dir", "third")
    assert vtrain(*more).code == 0
    done = vtrain("export", "new", "--format", "safetensors", "--output", "x.safetensors")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.freeze=1", "lora fixes all but the heads: freeze (1) must be null"),
        ("model.lora={rank: 64}", "lora.rank (64) must be less than each side"),
        ("model.lora={rank: 0}", "model.lora.rank"),
        ("model.lora={ranks: 8}", "did you mean 'rank'"),
        ("model.lora={alpha: 8}", "model.lora.rank"),
        ("train.parallel=fsdp", "lora trains little enough for train.parallel"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(
    start: tuple[object, ...], vtrain: Vtrain, override: str, message: str
) -> None:
    done = vtrain(*start, override, "--run-dir", "new")
    assert done.code == 2
    assert message in done.errors[0]
    assert not Path("new/config.yaml").exists()
