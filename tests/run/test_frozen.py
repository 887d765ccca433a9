"""`vtrain eval --knn` and `--linear-probe`, against scikit-learn on features read by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.inference.features import pre_logits
from vtrain.inference.loaded import load_model
from vtrain.run.build.data import build_source
from vtrain.run.fit import fit
from vtrain.run.request import Request

DIGITS = """\
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 2}
data: {name: digits, image_size: 8, limit: 300}
optimizer: {name: adamw, lr: 3e-3}
train: {epochs: 2, batch_size: 50, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    (folder / "digits.yaml").write_text(DIGITS)
    fit(Request(load_config(folder / "digits.yaml"), "digits", folder / "run"))
    return folder


@pytest.fixture(scope="module")
def read(digits: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the head is given of each split, read without the code that is tested."""
    loaded = load_model(digits / "run")
    source = build_source(load_config(digits / "digits.yaml"))
    found = {}
    for name in ("train", "val"):
        samples = source.split(name)
        pixels = torch.stack([loaded.geometry(samples.image(i)) for i in range(len(samples))])
        with torch.no_grad(), pre_logits(loaded.model) as kept:
            loaded.model(loaded.geometry.normalise(pixels))
        found[name] = (kept[0].numpy(), samples.targets.numpy())
    return found


def test_neighbours_are_scikit_learns_on_the_same_features(
    digits: Path, read: dict[str, tuple[np.ndarray, np.ndarray]], vtrain: Vtrain
) -> None:
    done = vtrain("eval", "--ckpt", digits / "run", "--knn", "--k", 7, "--json")
    assert done.code == 0, done.err
    (X, y), (asked, truth) = read["train"], read["val"]
    theirs = KNeighborsClassifier(
        7, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
    ).fit(X, y)
    figures = json.loads(done.out)
    assert figures["knn/top1"] == pytest.approx(theirs.score(asked, truth), abs=1e-9)
    first_five = np.argsort(-theirs.predict_proba(asked), axis=1, kind="stable")[:, :5]
    top5 = (first_five == truth[:, None]).any(1).mean()
    assert figures["knn/top5"] == pytest.approx(top5, abs=2 / len(truth))  # of equal votes any
    assert f"features {len(y)} training images of 16 values" in done.err


def test_the_probe_is_scikit_learns_on_the_same_features(
    digits: Path, read: dict[str, tuple[np.ndarray, np.ndarray]], vtrain: Vtrain
) -> None:
    done = vtrain("eval", "--ckpt", digits / "run", "--linear-probe", "--knn", "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures.keys() == {"knn/top1", "knn/top5", "probe/top1", "probe/top5", "probe/l2"}
    (X, y), (asked, truth) = read["train"], read["val"]
    scaler = StandardScaler().fit(X.astype(np.float64))
    theirs = LogisticRegression(C=1 / (figures["probe/l2"] * len(y)), tol=1e-8, max_iter=10_000)
    theirs.fit(scaler.transform(X), y)
    score = theirs.score(scaler.transform(asked), truth)
    assert figures["probe/top1"] == pytest.approx(score, abs=1 / len(truth) + 1e-9)
    assert "is the best of 8 on a fifth of the training images, with top-1 " in done.err


def test_batches_and_the_order_of_options_change_nothing(digits: Path, vtrain: Vtrain) -> None:
    outputs = [
        vtrain("eval", "--knn", "--ckpt", digits / "run", "--json", *more).out
        for more in ((), ("train.eval_batch_size=17",), ("data.cache=none",))
    ]
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_config_s_pretrained_weights_are_judged_without_training(
    digits: Path, vtrain: Vtrain
) -> None:
    config = digits / "digits.yaml"
    own = vtrain("eval", "--ckpt", digits / "run", "--knn", "--json")
    start = f"model.pretrained={digits / 'run/best.pt'}"
    done = vtrain("eval", "--config", config, start, "--knn", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads(own.out)
    assert "tensors loaded" in done.err


def test_classes_of_other_images_need_not_be_the_model_s(digits: Path, vtrain: Vtrain) -> None:
    done = vtrain("eval", "--ckpt", digits / "run", "--knn", "--k", 3, "--json",
                  "data.name=fake", "data.num_images=40", "data.num_classes=3")  # fmt: skip
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures.keys() == {"knn/top1"}  # of three classes any five hold the true one
    assert 0 <= figures["knn/top1"] <= 1
    assert not math.isnan(figures["knn/top1"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--k 3", 2, "--k has no effect without --knn"),
        ("--temperature 1", 2, "--temperature has no effect without --knn"),
        ("--config x.yaml", 2, "--config has no effect without --knn"),
        ("--knn --average 2", 2, "--average has no effect with --knn"),
        ("--linear-probe --tta flip", 2, "--tta has no effect with --linear-probe"),
        ("--knn --k 301", 2, "there are 300 training images, and 301 neighbours are asked for"),
        ("--knn --split train", 3, "the training images are what is evaluated"),
        ("--knn --ckpt run --ckpt run/last.pt", 2, "--knn is of one model"),
        ("--knn --ckpt x.onnx", 2, "an exported file has logits and no features"),
        ("--knn --config digits.yaml", 2, "the weights would be random"),
        ("--knn --config digits.yaml --ckpt run", 2, "--ckpt has no effect with --config"),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    vtrain: Vtrain,
    arguments: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(digits)
    ckpt = () if "--ckpt" in arguments or "--config" in arguments else ("--ckpt", "run")
    done = vtrain("eval", *arguments.split(), *ckpt)
    assert done.code == code
    (line,) = done.errors
    assert line.startswith(f"vtrain: error: {message}")
