"""One folder, the same images: what fit, eval, check and predict use of what people have."""

import json
import re
import shutil
import unicodedata
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
    assert "2 files that are no images (.heics 2) in DEV" in done.err
    assert "@eaDir" in done.err
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
