"""`vtrain explain` on runs that the real command left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.harness import Vtrain
from vtrain.explain import methods
from vtrain.explain.recording import record
from vtrain.inference.loaded import load_model
from vtrain.run import explain as vtrain_explain
from vtrain.run.explain_question import Question


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (("cat.png", (30, 20)), ("dog.png", (20, 40))):
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(name)
    return tmp_path


def test_maps_pictures_and_facts_are_written(here: Path, trained: Path, vtrain: Vtrain) -> None:
    done = vtrain("explain", "cat.png", "dog.png", "--ckpt", trained, "--output", "out",
                  "--method", "relevance", "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads((here / "out/explain.json").read_text())
    names = sorted(path.name for path in (here / "out").iterdir())
    assert names == [
        "1_cat.npz", "1_cat.png", "2_dog.npz", "2_dog.png", "explain.json", "sheet_1.png",
    ]  # fmt: skip
    record = json.loads(done.out)["images"][0]
    loaded = load_model(trained)
    image = loaded.preprocess("cat.png")
    best = loaded.model(image).argmax(1, keepdim=True)
    assert record["predictions"][0]["class"] == record["maps"][0]["class"]
    (found,) = methods.METHODS["relevance"].function(loaded.model, image, methods.Request(best))
    saved = np.load("out/1_cat.npz")["map_0"]
    np.testing.assert_allclose(saved, found.values[0].numpy(), rtol=1e-3, atol=1e-8)
    assert record["maps"][0]["max"] == pytest.approx(saved.max())
    # A landscape of 30 x 20 shows its middle 20 x 20: its hottest cell of 4 x 4 is there.
    row, column = divmod(saved.argmax(), 4)
    assert record["maps"][0]["hottest"] == [5 + 5 * column + 2.5, 5 * row + 2.5]


def test_exif_turns_the_picture_before_the_map_is_laid_over_it(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    upright = Image.open("cat.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 270 degrees
    turned.save("turned.png", exif=exif)
    done = vtrain("explain", "cat.png", "turned.png", "--ckpt", trained, "--format", "json")
    first, second = json.loads(done.out)["images"]
    assert first["maps"] == second["maps"]


def test_several_classes_have_a_map_each(here: Path, trained: Path, vtrain: Vtrain) -> None:
    done = vtrain("explain", "cat.png", "--ckpt", trained, "--target", "class_3",
                  "--target", "class_0", "--method", "ig", "--format", "json")  # fmt: skip
    (record,) = json.loads(done.out)["images"]
    assert [one["class"] for one in record["maps"]] == ["class_3", "class_0"]


def test_an_unreadable_image_costs_the_others_nothing(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    (here / "broken.png").write_text("no image")
    done = vtrain("explain", "broken.png", "cat.png", "--ckpt", trained, "--output", "out")
    assert done.code == 3
    (line,) = done.errors
    assert line.startswith("vtrain: error: 1 of 2 images could not be read")
    assert (here / "out/2_cat.png").exists()
    records = json.loads((here / "out/explain.json").read_text())["images"]
    assert "error" in records[0]
    assert "maps" in records[1]


def test_an_image_that_changes_meanwhile_costs_the_others_nothing(
    here: Path, trained: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once for the model and once, in full, for the picture."""
    read = vtrain_explain.read_image

    def changed(path: Path) -> Image.Image:
        if path.name == "cat.png":
            path.write_text("no image any more")
        return read(path)

    monkeypatch.setattr(vtrain_explain, "read_image", changed)
    done = vtrain("explain", "cat.png", "dog.png", "--ckpt", trained, "--output", "out")
    assert (done.code, len(done.errors)) == (3, 1)
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "2_dog.npz", "2_dog.png", "explain.json",
    ]  # fmt: skip
    first, second = json.loads((here / "out/explain.json").read_text())["images"]
    assert "not a readable image" in first["error"]
    assert second["maps"]


def test_a_block_and_a_head_are_said(here: Path, trained: Path, vtrain: Vtrain) -> None:
    done = vtrain("explain", "cat.png", "--ckpt", trained, "--layer", "0", "--head", "1",
                  "--format", "json")  # fmt: skip
    data = json.loads(done.out)
    assert (data["method"], data["layer"], data["head"]) == ("attention", 0, 1)
    loaded = load_model(trained)
    image = loaded.preprocess("cat.png")
    weights = record(loaded.model, image).weights["blocks.0.attn"]  # (1, H, n, n)
    saved = np.load(next(here.glob("explain/*/1_cat.npz")))["map_0"]
    np.testing.assert_allclose(saved.ravel(), weights[0, 1, 0, 1:].detach(), rtol=1e-3, atol=1e-8)
    assert Question(layer=0, head=1).named("attention") == "attention (block 0, head 1)"
    assert Question().named("attention") == "attention"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--target wolf", 2, "--target 'wolf' is no class of this model"),
        ("--target class_0 --method rollout", 2, "--target has no effect with --method rollout"),
        ("--layer 1 --method ig", 2, "--layer has no effect with --method ig"),
        ("--head 1 --method gradcam", 2, "--head has no effect with --method gradcam"),
        ("--layer 7 --method attention", 2, "--layer 7 is none of the model's 2 blocks"),
        ("--head 9 --method attention", 2, "--head 9 is none of the block's 2 heads"),
        ("--output used", 5, "this folder holds something already"),
        ("--output cat.png", 5, "a file where a folder should be"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    here: Path, trained: Path, vtrain: Vtrain, arguments: str, code: int, message: str
) -> None:
    (here / "used").mkdir()
    (here / "used/mine.txt").write_text("mine")
    before = sorted(here.rglob("*"))
    done = vtrain("explain", "cat.png", "--ckpt", trained, *arguments.split())
    assert done.code == code
    (line,) = done.errors
    assert line.startswith(f"vtrain: error: {message}")
    assert sorted(here.rglob("*")) == before


def test_a_folder_in_use_is_written_to_on_demand(here: Path, trained: Path, vtrain: Vtrain) -> None:
    shutil.copytree(trained, "copy")
    for force in ([], ["--force"]):
        done = vtrain("explain", "cat.png", "--ckpt", "copy", "--output", "copy", *force)
        assert done.code == (0 if force else 5)
    assert (here / "copy/1_cat.png").exists()
    assert (here / "copy/best.pt").exists()


def test_each_time_has_a_folder_of_its_own(here: Path, trained: Path, vtrain: Vtrain) -> None:
    for _ in range(2):
        assert vtrain("explain", "cat.png", "--ckpt", trained).code == 0
    assert len(list((here / "explain").iterdir())) == 2


def test_a_model_gone_wrong_explains_nothing(here: Path, trained: Path, vtrain: Vtrain) -> None:
    checkpoint = load_model(trained).checkpoint
    for tensor in checkpoint.weights.values():
        tensor.fill_(float("nan"))
    checkpoint.save(here / "nan.pt")
    done = vtrain("explain", "cat.png", "--ckpt", "nan.pt")
    assert (done.code, len(done.errors)) == (4, 1)
