"""`vtrain predict --features` and `--similar`, on a run that the real command left."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness import Vtrain
from vtrain.inference.feature_file import model_hash
from vtrain.inference.features import pre_logits
from vtrain.inference.loaded import load_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(35):  # more than a batch
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        path = tmp_path / f"images/{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


def features_by_hand(run: Path, paths: list[Path]) -> np.ndarray:
    loaded = load_model(run)
    with torch.no_grad(), pre_logits(loaded.model) as kept:
        loaded.model(torch.cat([loaded.preprocess(path) for path in paths]))
    return kept[0].numpy()


def test_features_are_what_the_head_reads_and_unreadable_images_are_told(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    (here / "images/09.png").write_bytes(b"spoilt")
    done = vtrain("predict", "images", "--ckpt", trained, "--features", "x.npz")
    assert done.code == 3
    assert done.errors[0].startswith("vtrain: error: 1 of 35 images could not be read")
    assert "wrote the features of 34 images to x.npz" in done.err
    with np.load("x.npz", allow_pickle=False) as found:
        names = [Path(name.decode()) for name in found["ids"]]
        paths = [path for path in sorted(Path("images").iterdir()) if path.stem != "09"]
        assert names == paths
        np.testing.assert_allclose(found["features"], features_by_hand(trained, paths), atol=1e-5)
        assert found["model"].item() == model_hash(load_model(trained))
        assert "labels" not in found


def test_the_nearest_images_are_those_of_a_loop_in_every_form(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    assert vtrain("predict", "images", "--ckpt", trained, "--features", "x.npz").code == 0
    (here / "bad.png").write_bytes(b"spoilt")
    asked = ["images/03.png", "bad.png", "images/20.png"]
    order = ("predict", *asked, "--ckpt", trained, "--similar", "x.npz", "--top-k", 3)
    done = vtrain(*order, "--format", "json")
    assert done.code == 3
    answers = json.loads(done.out)
    assert [one["image"] for one in answers] == asked
    assert "error" in answers[1]
    paths = sorted(Path("images").iterdir())
    features = features_by_hand(trained, paths)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for answer in (answers[0], answers[2]):
        row = unit @ unit[paths.index(Path(answer["image"]))]
        expected = np.argsort(-row)[:3]
        assert [one["image"] for one in answer["similar"]] == [str(paths[i]) for i in expected]
        found = [one["similarity"] for one in answer["similar"]]
        np.testing.assert_allclose(found, row[expected], atol=1e-5)
    assert answers[0]["similar"][0]["image"] == asked[0]  # an image is most like itself
    lines = [json.loads(line) for line in vtrain(*order, "--format", "jsonl").out.splitlines()]
    assert lines == answers
    rows = list(csv.DictReader(io.StringIO(vtrain(*order, "--format", "csv").out)))
    assert len(rows) == 3 + 1 + 3
    assert rows[0]["similar"] == asked[0]
    assert rows[3]["error"]
    table = vtrain(*order).out.splitlines()
    assert table[:2] == [asked[0], f"   1.0000  {asked[0]}"]
    assert table[5].startswith("  error: ")


def test_what_explain_saved_is_an_index_and_knows_the_classes(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    done = vtrain("explain", "--features", "--ckpt", trained, "--save", "x.npz", "--output", "out")
    assert done.code == 0, done.err
    done = vtrain("predict", "images/01.png", "--ckpt", trained, "--similar", "x.npz",
                  "--format", "json", "--output", "found.json")  # fmt: skip
    assert done.code == 0, done.err
    (answer,) = json.loads((here / "found.json").read_text())
    assert len(answer["similar"]) == 5
    assert all(one["class"] in load_model(trained).classes for one in answer["similar"])


def test_an_index_of_another_model_is_refused_by_its_hash(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    assert vtrain("predict", "images", "--ckpt", trained, "--features", "x.npz").code == 0
    checkpoint = load_model(trained).checkpoint
    other = {name: tensor + 1 for name, tensor in checkpoint.weights.items()}
    checkpoint.with_weights(other).save(here / "other.pt")
    done = vtrain("predict", "images", "--ckpt", "other.pt", "--similar", "x.npz")
    assert done.code == 4
    (line,) = done.errors
    assert line.startswith("vtrain: error: it is of another model (")
    assert model_hash(load_model(trained))[:12] in line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--features x.npz --top-k 3", 2, "--top-k has no effect with --features"),
        ("--features x.npz --format csv", 2, "--format has no effect with --features"),
        ("--features x.npz --similar y.npz", 2, "--similar has no effect with --features"),
        ("--similar x.npz --reject 0.5", 2, "--reject has no effect with --similar"),
        ("--similar x.npz --tta flip", 2, "--tta has no effect with --similar"),
        ("--similar nowhere.npz", 4, "no such file (nowhere.npz)"),
        ("--similar used.npz", 4, "not a readable archive of arrays"),
        ("--features used.npz", 5, "this file is there already"),
        ("--features x.npz --ckpt x.onnx", 2, "an exported file has logits and no features"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    here: Path, trained: Path, vtrain: Vtrain, arguments: str, code: int, message: str
) -> None:
    Path("used.npz").touch()
    ckpt = () if "--ckpt" in arguments else ("--ckpt", trained)
    done = vtrain("predict", "images/01.png", *arguments.split(), *ckpt)
    assert done.code == code
    (line,) = done.errors
    assert line.startswith(f"vtrain: error: {message}")
    assert sorted(path.name for path in here.iterdir()) == ["images", "used.npz"]
