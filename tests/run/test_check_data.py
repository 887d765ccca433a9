import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain
from vtrain.errors import counted
from vtrain.run import check_data


@pytest.fixture
def photographs(small_run: Path) -> Path:
    """Make a folder of two classes with a copy across splits, a bad file and a stray text."""
    plant_photographs({"train": {"cat": 6, "dog": 6}, "val": {"cat": 2, "dog": 2}})
    shutil.copy("photos/train/cat/0.png", "photos/val/cat/copy.png")
    Path("photos/train/dog/notes.txt").write_text("not an image")
    config = Path("photos.yaml")
    config.write_text(over_photographs(SMALL_RUN))
    return config


def test_a_scan_counts_classes_and_finds_bad_files_and_copies(
    photographs: Path, vtrain: Vtrain
) -> None:
    Path("photos/val/dog/broken.png").write_text("<html>")
    done = vtrain("check", photographs, "--data", "--json")
    assert done.code == 3, done.err
    assert "1 image cannot be read, so that fit would stop; first: " in done.err
    report = json.loads(done.out)
    assert report["splits"]["train"]["per_class"] == {"cat": 6, "dog": 6}
    assert report["splits"]["train"]["ignored"] == {".txt": 1}
    (bad,) = report["splits"]["val"]["bad"]
    assert bad["name"].endswith("val/dog/broken.png")
    assert bad["label"] == "dog"
    ((first, second),) = report["duplicates"]
    assert {first["split"], second["split"]} == {"train", "val"}


def test_the_table_names_what_the_json_holds(photographs: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", photographs, "--data")
    assert done.code == 0
    assert "train: 12 images in 2 classes" in done.out
    assert "duplicates: 1 file is an exact copy of another" in done.out


def test_the_picture_shows_the_augmentation_of_the_config(
    photographs: Path, vtrain: Vtrain
) -> None:
    """Each has a name of its own: no file of anybody's is replaced."""
    pictures = []
    for name, change in (
        ("augmented.png", "augment.crop=none"),
        ("augmented_2.png", "augment.crop=pad"),
        ("augmented_3.png", "augment.mixup=1"),
    ):
        done = vtrain("check", photographs, "--data", change)
        assert done.code == 0
        assert f"{name} shows training images" in done.err
        pictures.append(Image.open(name).convert("RGB").tobytes())
    assert len(set(pictures)) == 3


def test_tensorboard_shows_the_same_picture(photographs: Path, vtrain: Vtrain) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes = ("augment.mixup=1", "logging.tensorboard=true", "logging.images=9")
    assert vtrain("check", photographs, "--data", *changes).code == 0
    done = vtrain("fit", photographs, "--run-dir", "run", *changes, "train.max_steps=1")
    assert done.code == 0, done.err
    events = EventAccumulator("run/tensorboard")
    events.Reload()
    (event,) = events.Images("train/images")
    shown = Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
    assert shown.tobytes() == Image.open("augmented.png").convert("RGB").tobytes()


def test_a_missing_folder_is_one_line(photographs: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", photographs, "--data", "data.root=none")
    assert done.code == 3
    assert done.err.count("\n") == 1


def test_an_unwritable_folder_is_named(
    photographs: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_data, "PICTURE", Path("nowhere/augmented.png"))
    done = vtrain("check", photographs, "--data")
    assert done.code == 5
    assert "augmented.png" in done.err


@pytest.mark.parametrize("spoilt", [3, 6, 12])
def test_bad_training_images_are_reported_and_left_out_of_the_picture(
    photographs: Path, vtrain: Vtrain, spoilt: int
) -> None:
    for path in sorted(Path("photos/train").glob("*/*.png"))[:spoilt]:
        path.write_text("version https://git-lfs.github.com/spec/v1")
    done = vtrain("check", photographs, "--data")
    assert done.code == 3, done.err
    assert f"{spoilt} images cannot be read, so that fit would stop; first: " in done.err
    assert f"bad: {counted(spoilt, 'image')} cannot be read" in done.out
    lost = {3: None, 6: "cat", 12: "cat, dog"}[spoilt]
    said = re.findall(r"classes without an image that can be read: (.*)", done.out)
    assert said == ([lost] if lost else [])
    assert Path("augmented.png").exists() == (spoilt < 12)


@pytest.mark.parametrize("spoilt", [b"", b"hello", None])
def test_the_whole_report_is_printed_whatever_is_wrong_with_a_training_image(
    photographs: Path, vtrain: Vtrain, spoilt: bytes | None
) -> None:
    path = Path("photos/train/cat/0.jpg")
    Image.new("RGB", (200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:700] if spoilt is None else spoilt)
    report = json.loads(vtrain("check", photographs, "--data", "--json").out)
    assert [Path(bad["name"]).name for bad in report["splits"]["train"]["bad"]] == ["0.jpg"]
    assert report["splits"]["val"]["images"] == 5
    table = vtrain("check", photographs, "--data").out
    assert "photos/train/cat/0.jpg: " in table
    assert "in more than one of the classes" not in table
    assert Path("augmented.png").exists()


@pytest.mark.parametrize(
    ("spoilt", "policy", "code"),
    [("train", "error", 3), ("train", "skip", 0), ("val", "error", 3), ("val", "skip", 0)],
)
def test_check_ends_as_a_run_over_the_same_bad_image_would(
    photographs: Path, vtrain: Vtrain, spoilt: str, policy: str, code: int
) -> None:
    Path(f"photos/{spoilt}/dog/1.png").write_text("<html>")
    change = f"data.on_bad_image={policy}"
    checked = vtrain("check", photographs, "--data", change)
    run = vtrain("fit", photographs, "--run-dir", "run", change)
    assert (checked.code, run.code) == (code, code)
    assert f"bad: {'1 image' if spoilt == 'train' else '0 images'} cannot" in checked.out


def test_copies_in_one_class_are_named(photographs: Path, vtrain: Vtrain) -> None:
    shutil.copy("photos/train/dog/2.png", "photos/train/dog/again.png")
    done = vtrain("check", photographs, "--data")
    (line,) = re.findall(r"in one class of one split: 1 image\n +(.*)", done.out)
    assert [Path(name).name for name in line.split(" = ")] == ["2.png", "again.png"]
