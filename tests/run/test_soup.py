"""`vtrain soup`, against the recipe written out as a loop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.inference.loaded import load_model
from vtrain.run.build.data import build_source
from vtrain.run.fit import fit
from vtrain.run.request import Request

BASE = """\
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 2}
data: {name: digits, image_size: 8, limit: 300}
optimizer: {name: adamw, lr: 3e-3}
train: {epochs: 2, batch_size: 50, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, three that were tuned from it, and one with weights of its own."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "base.yaml").write_text(BASE)

    def trained(name: str, *changes: str) -> None:
        fit(Request(load_config(folder / "base.yaml", changes), name, folder / name))

    trained("base")
    start = f"model.pretrained={folder / 'base/best.pt'}"
    trained("one", start, "seed=1")
    trained("two", start, "seed=2", "optimizer.lr=1e-3", "model.drop_path_rate=0.1")
    trained("three", start, "seed=3", "optimizer.lr=6e-3")
    trained("other", "seed=4")
    return folder


def top1(run: Path, weights: dict[str, torch.Tensor]) -> float:
    """The accuracy of weights in the run's model, by nothing but the model."""
    loaded = load_model(run)
    loaded.model.load_state_dict(weights)
    samples = build_source(load_config(run / "config.yaml")).split("val")
    pixels = torch.stack([loaded.geometry(samples.image(i)) for i in range(len(samples))])
    with torch.no_grad():
        logits = loaded.model(loaded.geometry.normalise(pixels))
    return float((logits.argmax(1) == samples.targets).double().mean())


def greedy(runs: list[Path]) -> tuple[set[str], dict[str, torch.Tensor], float]:
    """The recipe of the paper: names of the ingredients, their mean, its accuracy."""
    states = {run.name: load_model(run).checkpoint.weights for run in runs}
    order = sorted(runs, key=lambda run: -top1(run, states[run.name]))
    chosen: list[str] = []
    best, mean = 0.0, {}
    for run in order:
        tried = [*chosen, run.name]
        average = {
            key: torch.stack([states[name][key].double() for name in tried]).mean(0).float()
            for key in states[run.name]
        }
        accuracy = top1(run, average)
        if accuracy >= best:
            chosen, best, mean = tried, accuracy, average
    return set(chosen), mean, best


@pytest.mark.parametrize("names", [("one", "two", "three"), ("other", "two", "base", "one")])
def test_the_soup_is_that_of_the_recipe_and_never_below_its_best_member(
    runs: Path, tmp_path: Path, vtrain: Vtrain, names: tuple[str, ...]
) -> None:
    output = tmp_path / "soup.pt"
    paths = [runs / name for name in names]
    done = vtrain("soup", *paths, "--output", output, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    chosen, mean, accuracy = greedy(paths)
    inside = {Path(one["checkpoint"]).parent.name for one in made["members"] if one["in_soup"]}
    assert inside == chosen
    assert made["val/top1"] == pytest.approx(accuracy, abs=1e-9)
    assert made["val/top1"] >= max(one["val/top1"] for one in made["members"])
    weights = load_model(output).checkpoint.weights
    for key, tensor in mean.items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-6, atol=1e-7)
    # An ordinary checkpoint, whose figures are those that were told.
    again = json.loads(vtrain("eval", "--ckpt", output, "--json").out)
    assert again["val/top1"] == made["val/top1"]
    assert again["val/loss"] == made["val/loss"]


def test_the_table_says_what_is_in_and_that_its_figure_is_too_good(
    runs: Path, tmp_path: Path, vtrain: Vtrain
) -> None:
    done = vtrain("soup", runs / "one", runs / "two", "--output", tmp_path / "soup.pt")
    assert done.code == 0, done.err
    head, first, *_ = done.out.splitlines()
    assert head.split() == ["checkpoint", "val/top1", "val/loss"]
    assert first.endswith("in")
    assert "the last row is too good" in done.out
    assert "--split test" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("one", 2, "a soup is of several runs"),
        ("one one", 2, "this model is named twice"),
        ("one heads.pt", 4, "its arguments of the model are not those of one/best.pt"),
        ("one x.onnx", 2, "an exported file has no weights to average"),
        ("one two --output soup.onnx", 2, "a checkpoint's name ends in .pt"),
        ("one two --output used.pt", 5, "this file is there already"),
        ("one two optimizer.lr=1", 2, "optimizer.lr has no effect on an evaluation"),
        ("one nowhere", 4, "no such checkpoint"),
    ],
)
def test_what_is_no_soup_is_one_line(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    vtrain: Vtrain,
    arguments: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(runs)
    checkpoint = load_model("one").checkpoint
    described = checkpoint.model
    wider = replace(described, arguments={**described.arguments, "num_heads": 4})
    replace(checkpoint, model=wider).save(Path("heads.pt"))
    Path("used.pt").touch()
    done = vtrain("soup", *arguments.split())
    assert done.code == code
    (line,) = done.errors
    assert message in line
    assert not Path("soup.pt").exists()
