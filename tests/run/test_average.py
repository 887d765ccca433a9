"""The mean of a run's last checkpoints."""

import json
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain
from vtrain.api import load_model


@pytest.fixture
def run(small_run: Path, vtrain: Vtrain) -> Path:
    """A run of four epochs that keeps three checkpoints."""
    more = ("train.epochs=4", "checkpoint.keep=3", "optimizer.lr=0.05")
    assert vtrain("fit", small_run, "--run-dir", "run", *more).code == 0
    return Path("run")


def test_the_mean_of_the_newest_weights_is_evaluated_and_saved(run: Path, vtrain: Vtrain) -> None:
    done = vtrain("eval", "--ckpt", run, "--average", 3, "--json", "--output", "mean.pt")
    assert done.code == 0
    newest = sorted(run.glob("step-*.pt"))[-3:]
    assert ", ".join(path.name for path in newest) in done.err
    averages = [torch.load(path, weights_only=True)["state"]["ema"]["weights"] for path in newest]
    weights = load_model("mean.pt").model.state_dict()
    for name, tensor in weights.items():
        expected = torch.stack([average[name].double() for average in averages]).mean(0)
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), rtol=1e-6, atol=1e-7)
    found = json.loads(done.out)
    assert found == json.loads(vtrain("eval", "--ckpt", "mean.pt", "--json").out)
    assert found != json.loads(vtrain("eval", "--ckpt", newest[-1], "--json").out)
    del found["per_class"]
    assert torch.load("mean.pt", weights_only=True)["metrics"] == found


def test_the_mean_of_one_is_that_one(run: Path, vtrain: Vtrain) -> None:
    mean = vtrain("eval", "--ckpt", run, "--average", 1, "--json")
    assert json.loads(mean.out) == json.loads(
        vtrain("eval", "--ckpt", run / "last.pt", "--json").out
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--ckpt", "run", "--average", "9"), 4, "checkpoints to average, not 9 (run)"),
        (("--ckpt", "run/last.pt", "--average", "2"), 4, "there are 0 checkpoints to average"),
        (("--ckpt", "run", "--output", "x.pt"), 2, "add --average N"),
        (("--ckpt", "run", "--average", "2", "--output", "run/last.pt"), 5, "there already"),
        (("--ckpt", "run", "train.batch_size=auto"), 2, "write train.eval_batch_size"),
    ],
)
def test_what_cannot_be_evaluated_averaged_or_saved_is_refused(
    run: Path, vtrain: Vtrain, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = vtrain("eval", *arguments)
    assert done.code == code
    assert message in done.err
