"""One folder, the same images: what fit, eval, check and predict use of what people have."""

import json
import os
import re
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant, plant_photographs
from tests.harness import Vtrain

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
LEFT = [
    "@eaDir/x.png/1.png",
    ".ipynb_checkpoints/1.png",
    "__MACOSX/._1.png",
    "Thumbs.db",
    "._1.png",
]


@pytest.fixture
def messy(small_run: Path) -> Path:
    """Make a folder as a Mac and a NAS leave it, and a config on it."""
    plant_photographs({"Training": {NFC: 6, "tea": 6}, "DEV": {NFD: 3, "tea": 3}})
    for folder in ("", "Training", "DEV", f"Training/{NFC}", f"DEV/{NFD}", "DEV/tea"):
        plant(Path("photos", folder), *LEFT)
    plant(Path("photos/DEV/tea"), "1.heics", "2.heics")
    config = Path("photos.yaml")
    text = over_photographs(SMALL_RUN).replace("warmup_epochs: 1", "warmup_epochs: 0")
    config.write_text(text.replace("epochs: 2", "epochs: 1"))
    return config


def test_every_command_uses_the_same_images(messy: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", messy, "--run-dir", "run")
    assert done.code == 0, done.err
    assert "2 classes, 12 training and 6 validation images" in done.err
    # Each has its own line: one of several might say that the classes are the wrong ones.
    notes = [line for line in done.err.splitlines() if line.startswith("note    ")]
    assert sum("2 files that are no images (.heics 2) in DEV" in line for line in notes) == 1
    assert all(("@eaDir" in line) != (".heics" in line) for line in notes)
    checked = vtrain("check", messy)
    assert re.search(r"^classes +2$", checked.out, re.M)
    assert re.search(r"^training images +12$", checked.out, re.M)
    assert re.search(r"^note .*@eaDir", checked.out, re.M)
    scanned = json.loads(vtrain("check", messy, "--data", "--json").out)
    assert scanned["splits"]["train"]["per_class"] == {NFC: 6, "tea": 6}
    assert scanned["splits"]["val"]["per_class"] == {NFC: 3, "tea": 3}
    predicted = vtrain("predict", "photos", "--ckpt", "run", "--format", "json")
    assert predicted.code == 0, predicted.err
    assert len(json.loads(predicted.out)) == 18
    # What went through another system is evaluated with the same classes.
    shutil.move(f"photos/DEV/{NFD}", "photos/DEV/x")
    shutil.move("photos/DEV/x", f"photos/DEV/{NFC}")
    shutil.move(f"photos/Training/{NFC}", f"photos/Training/{NFD}")
    evaluated = vtrain("eval", "--ckpt", "run", "--json")
    assert evaluated.code == 0, evaluated.err


@pytest.mark.parametrize("command", ["fit", "check", "check --data"])
def test_every_command_refuses_the_same_folder_with_the_rule(
    messy: Path, vtrain: Vtrain, command: str
) -> None:
    shutil.rmtree("photos/DEV")
    plant(Path("photos"), "bus/1.png")
    done = vtrain(*command.split(), messy)
    assert done.code == 3
    (line,) = done.errors
    assert "'Training' is a split or a class: 'bus' beside it holds images" in line
    assert "one named like a split is a class if it is the only one" in line


@pytest.mark.parametrize("folder", ["photos", "photos/train"])
def test_each_command_lists_a_folder_of_images_once(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Those that choose a config for it as well: it may hold a million files."""
    plant_photographs({"train": {"cat": 20, "dog": 20}, "val": {"cat": 4, "dog": 4}})
    small_run.write_text(over_photographs(SMALL_RUN).replace("root: photos", f"root: {folder}"))
    held_out = ["data.val_fraction=0.5"]
    listings: Counter[str] = Counter()
    real = os.scandir

    def counting(path: str | os.PathLike[str] = ".") -> object:
        listings[os.path.relpath(path)] += 1
        return real(path)

    monkeypatch.setattr(os, "scandir", counting)
    for command in (
        ["fit", folder, "--run-dir", "run", "train.max_steps=1"],
        ["fit", small_run, "--run-dir", "other", "train.max_steps=1", *held_out],
        ["fit", "run", "--resume", "train.max_steps=2"],
        ["check", folder],
        ["check", small_run, *held_out],
        ["check", folder, "--data"],
        ["eval", "--ckpt", "run", f"data.root={folder}", "--split", "train"],
        ["predict", folder, "--ckpt", "run"],
    ):
        listings.clear()
        done = vtrain(*command)
        assert done.code == 0, done.err
        assert listings["photos/train/cat"] == 1, command
        assert max(n for path, n in listings.items() if path.startswith("photos/")) <= 2
        inner = [n for path, n in listings.items() if path.count(os.sep) == 2]
        assert set(inner) == {1}, (command, listings)


def test_links_out_of_a_folder_are_followed_where_that_is_asked_for(
    small_run: Path, vtrain: Vtrain
) -> None:
    plant_photographs({"train": {"cat": 6, "dog": 6}, "val": {"cat": 2, "dog": 2}})
    shutil.move("photos/train/cat", "elsewhere")
    Path("photos/train/cat").symlink_to(Path("elsewhere").absolute())
    assert "set data.follow_links=true if that is meant" in vtrain("check", "photos").err
    assert vtrain("check", "photos", "data.follow_links=true").code == 0
