"""Other names for the classes of a checkpoint, by the real commands."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.files.checkpoint import Checkpoint
from vtrain.run.fit import fit
from vtrain.run.request import Request

RUN = """
seed: 0
model: {name: vit_ti, patch_size: 8, embed_dim: 16, depth: 1, num_heads: 1}
data: {name: image_folder, root: photos, image_size: 16}
augment: {crop: none}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 1, batch_size: 4}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three classes of photographs and a finished run of them, made once."""
    folder = tmp_path_factory.mktemp("rename")
    for split in ("train", "val"):
        for level, name in enumerate(("bird", "cat", "dog")):
            photos = folder / "photos" / split / name
            photos.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (16, 16), (80 * level, number, 0)).save(photos / f"{number}.png")
    config = folder / "c.yaml"
    config.write_text(RUN)
    fit(Request(load_config(config, [f"data.root={folder}/photos"]), "c", folder / "run"))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand beside a copy of it and return the run's folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("run")


def test_the_new_names_are_predicted_exported_and_evaluated(run: Path, vtrain: Vtrain) -> None:
    done = vtrain("rename", run, "cat=Katze", "bird = a bird", "--output", "new.pt")
    assert done.code == 0, done.err
    assert "2 of 3 classes" in done.err
    assert Checkpoint.load(Path("new.pt")).classes == ("a bird", "Katze", "dog")
    image = "photos/val/cat/0.png"
    before, after = (
        json.loads(vtrain("predict", image, "--ckpt", ckpt, "--format", "json").out)[0]
        for ckpt in (run, "new.pt")
    )
    new = {"cat": "Katze", "bird": "a bird", "dog": "dog"}
    for old_row, new_row in zip(before["predictions"], after["predictions"], strict=True):
        assert new_row == {**old_row, "class": new[old_row["class"]]}
    # The photographs stay in their folders.
    plain, renamed = (
        json.loads(vtrain("eval", "--ckpt", ckpt, "--json").out) for ckpt in (run, "new.pt")
    )
    assert renamed["val/top1"] == plain["val/top1"]
    assert renamed["val/loss"] == plain["val/loss"]
    assert vtrain("export", "new.pt", "--format", "safetensors").code == 0


def test_folders_may_have_the_new_names_too(run: Path, vtrain: Vtrain) -> None:
    assert vtrain("rename", run, "cat=Katze", "--output", "new.pt").code == 0
    before = json.loads(vtrain("eval", "--ckpt", "new.pt", "--json").out)
    for split in ("train", "val"):
        Path("photos", split, "cat").rename(Path("photos", split, "Katze"))
    after = json.loads(vtrain("eval", "--ckpt", "new.pt", "--json", "data.root=photos").out)
    assert after["val/loss"] == pytest.approx(before["val/loss"])


def test_a_file_names_all_in_their_order(run: Path, vtrain: Vtrain) -> None:
    Path("names.txt").write_text("Vogel\nKatze\nHund\n")
    assert vtrain("rename", run, "--names", "names.txt", "--output", "new.pt").code == 0
    assert Checkpoint.load(Path("new.pt")).classes == ("Vogel", "Katze", "Hund")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "there is no new name"),
        (["cat=Katze", "--names", "names.txt"], 2, "both OLD=NEW and --names"),
        (["Katze"], 2, "'Katze' is no new name (command line): write OLD=NEW"),
        (["cat="], 2, "'cat=' is no new name"),
        (["cta=Katze"], 2, "there is no class 'cta' (command line): did you mean 'cat'?"),
        (["cat=x", "dog=x"], 2, "two classes would be called 'x'"),
        (["cat=dog", "dog=cat"], 2, "'dog' is the old name of another class"),
        (["--names", "names.txt"], 2, "2 names for 3 classes (names.txt)"),
        (["--names", "none.txt"], 3, "cannot read the names of classes (none.txt)"),
        (["cat=Katze", "--output", "there.pt"], 5, "this file is there already (there.pt)"),
        (["cat=Katze", "--output", "x.onnx"], 2, "name it x.pt; `vtrain export` writes other"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_leaves_nothing(
    run: Path, vtrain: Vtrain, words: list[str], code: int, message: str
) -> None:
    Path("names.txt").write_text("a\nb\n")
    Path("there.pt").touch()
    output = [] if "--output" in words else ["--output", "new.pt"]
    done = vtrain("rename", run, *words, *output)
    assert done.code == code, done.err
    assert message in done.errors[0]
    assert len(done.errors) == 1
    assert not Path("new.pt").exists()


def test_no_training_goes_on_from_it(run: Path, vtrain: Vtrain) -> None:
    assert vtrain("rename", run, "cat=Katze", "--output", "new.pt").code == 0
    assert Checkpoint.load(Path("new.pt")).state.keys() == {"model", "ema"}
