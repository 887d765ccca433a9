"""What a user sees of a faulty dataset: exit code, one line, and nothing lost.

Rows E and F of the fault matrix, by the real command. A fault ends `fit` with its code and its
line, changes no file of the dataset, and leaves a run folder that goes on when it is mended.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.pictures import as_nobody, over_photographs, plant_photographs
from tests.harness import Result, Vtrain
from vtrain.run.text import screens

Fault = Callable[[], object]
VICTIM = Path("photos/train/cat/3.png")


@pytest.fixture
def photographs(small_run: Path) -> Path:
    """Make a folder of two classes and a config of one epoch on it."""
    plant_photographs({"train": {"cat": 8, "dog": 8}, "val": {"cat": 3, "dog": 3}})
    text = over_photographs(SMALL_RUN).replace("warmup_epochs: 1, ", "")
    config = Path("photos.yaml")
    config.write_text(text.replace("epochs: 2", "epochs: 1").replace(", warmup_epochs: 1", ""))
    return config


def content(root: Path) -> dict[str, str]:
    """Every file and link below a folder, and what is in it."""
    return {
        str(path.relative_to(root)): (
            str(path.readlink())
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def one_line(done: Result) -> str:
    """The error, which is one line of a length that a person reads, without a traceback."""
    (line,) = re.findall(r"^vtrain: error: .*$", done.err, re.M)
    assert "Traceback" not in done.err
    assert line.isprintable()
    return str(line)


def png(width: int, height: int) -> bytes:
    """A PNG whose header declares more pixels than follow."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def replaced(data: bytes) -> Fault:
    return lambda: VICTIM.write_bytes(data)


def cut() -> None:
    VICTIM.write_bytes(VICTIM.read_bytes()[:200])


def broken_link() -> None:
    VICTIM.unlink()
    VICTIM.symlink_to("gone.png")


def outside_link() -> None:
    Path("elsewhere").mkdir()
    VICTIM.rename("elsewhere/3.png")
    VICTIM.symlink_to(Path("elsewhere/3.png").absolute())


def flat() -> None:
    files = sorted(Path("photos").rglob("*.png"))
    for number, path in enumerate(files):
        path.rename(f"photos/{number}.png")
    shutil.rmtree("photos/train")
    shutil.rmtree("photos/val")


def emptied() -> None:
    for path in Path("photos/train/dog").iterdir():
        path.unlink()


def a_file() -> None:
    shutil.rmtree("photos")
    Path("photos").write_text("not a folder")


DATASETS: dict[str, tuple[Fault, str]] = {
    "E1 missing": (
        lambda: shutil.rmtree("photos"),
        r"no such dataset folder .*expected ROOT/train/CLASS",
    ),
    "E1 file": (a_file, r"a file where the dataset's folder should be .*expected ROOT/train/CLASS"),
    "E1 flat": (flat, r"22 images but no class folders .*expected ROOT/train/CLASS"),
    "E1 empty": (
        lambda: (shutil.rmtree("photos"), Path("photos").mkdir()),
        r"there are no class folders .*expected ROOT/train/CLASS",
    ),
    "E2": (
        lambda: shutil.rmtree("photos/train/dog"),
        r"only one class, 'cat' .*training needs two",
    ),
    "E3": (emptied, r"no images in class dog .*add images or remove the folder"),
    "E6": (
        lambda: Path("photos/val/dog").rename("photos/val/doge"),
        r"class 'doge' is in val but not in train .*rename or remove",
    ),
}
IMAGES: dict[str, tuple[Fault, str]] = {
    "E10 broken": (broken_link, "no such image file"),
    "E10 outside": (outside_link, r"a link leads out of the dataset.*data.follow_links=true"),
    "F1 empty": (replaced(b""), "the file is empty"),
    "F1 text": (replaced(b"hello"), "not a readable image \\(unknown format\\)"),
    "F1 page": (replaced(b"<!DOCTYPE html><html>"), "it looks like a web page"),
    "F2": (cut, "a damaged image"),
    "F4": (replaced(png(100_000, 100_000)), "more pixels than the limit of 64,000,000"),
    "F5": (replaced(png(13_000, 13_000)), "an image of 13000 x 13000 pixels is over the limit"),
    "F13": (replaced(b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n"), "it looks like PostScript"),
}


@pytest.mark.parametrize("row", [*DATASETS, *IMAGES])
def test_a_fault_ends_fit_in_one_line_and_the_run_goes_on_when_it_is_mended(
    photographs: Path, vtrain: Vtrain, row: str
) -> None:
    fault, message = {**DATASETS, **IMAGES}[row]
    shutil.copytree("photos", "sound")
    fault()
    before = content(Path("photos"))
    done = vtrain("fit", photographs, "--run-dir", "run")
    assert done.code == 3, done.err
    line = one_line(done)
    assert re.search(message, line), line
    assert "photos" in line
    assert content(Path("photos")) == before
    if row in IMAGES:
        assert str(VICTIM) in line
        assert ("follow_links" if row == "E10 outside" else "data.on_bad_image=skip") in line
    assert not Path("run").exists()  # a start that makes no step leaves no folder
    if Path("photos").is_file():
        Path("photos").unlink()
    shutil.rmtree("photos", ignore_errors=True)
    Path("sound").rename("photos")
    again = vtrain("fit", photographs, "--run-dir", "run", "--resume")
    assert again.code == 0, again.err
    assert vtrain("verify", "run").code == 0


@pytest.mark.parametrize("row", IMAGES)
def test_a_bad_image_is_named_by_predict_and_the_others_are_predicted(
    photographs: Path, vtrain: Vtrain, row: str
) -> None:
    assert vtrain("fit", photographs, "--run-dir", "run").code == 0
    fault, message = IMAGES[row]
    fault()
    before = content(Path("run"))
    done = vtrain("predict", "photos/train/cat", "--ckpt", "run", "--format", "json")
    results = {Path(each["image"]).name: each for each in json.loads(done.out)}
    assert len(results) == 8
    bad = [name for name, each in results.items() if "error" in each]
    if row == "E10 outside":  # a dataset stays inside of its folder; a named file may be anywhere
        assert (done.code, bad) == (0, [])
        return
    assert (done.code, bad) == (3, ["3.png"])
    assert re.search(message, one_line(done))
    assert content(Path("run")) == before


@pytest.mark.parametrize("row", ["F1 text", "F2", "E10 broken"])
def test_a_bad_validation_image_ends_eval_and_leaves_the_checkpoints(
    photographs: Path, vtrain: Vtrain, row: str
) -> None:
    assert vtrain("fit", photographs, "--run-dir", "run").code == 0
    before = content(Path("run"))
    IMAGES[row][0]()
    VICTIM.replace("photos/val/cat/1.png")
    done = vtrain("eval", "--ckpt", "run")
    assert done.code == 3
    assert re.search(rf"{IMAGES[row][1]}.*photos/val/cat/1\.png", one_line(done))
    assert content(Path("run")) == before


HARMLESS: dict[str, tuple[Fault, str]] = {
    "E4": (
        lambda: shutil.copytree("photos/train/cat", "photos/train/.ipynb_checkpoints"),
        r"note .*ignored 1 hidden or leftover file or folder .* in train",
    ),
    "E5": (lambda: shutil.rmtree("photos/val/cat"), r"note .*val has no images of 1 class: cat"),
    "E9": (
        lambda: Path("photos/train/cat/loop").symlink_to("."),
        r"16 training and 6 validation(.|\n)*ignored 1 link to a folder that is listed",
    ),
    "F11": (
        lambda: VICTIM.write_bytes(
            VICTIM.read_bytes()[:33]
            + b"\0\0\0\4eXIfjunk"
            + struct.pack(">I", zlib.crc32(b"eXIfjunk"))
            + VICTIM.read_bytes()[33:]
        ),
        r"16 training",
    ),
    "F12": (lambda: Image.new("RGB", (1, 3000)).save(VICTIM), r"16 training"),
}


@pytest.mark.parametrize("row", HARMLESS)
def test_what_is_harmless_is_told_and_ends_nothing(
    photographs: Path, vtrain: Vtrain, row: str
) -> None:
    fault, said = HARMLESS[row]
    fault()
    done = vtrain("fit", photographs, "--run-dir", "run")
    assert done.code == 0, done.err
    assert re.search(said, done.err), done.err


@pytest.mark.parametrize("images", [2, 3, 31, 32, 33])
def test_few_images_and_a_last_batch_of_one_train(
    small_run: Path, vtrain: Vtrain, images: int
) -> None:
    """E17: batches of 32."""
    change = ("data.num_classes=2", "schedule.warmup_epochs=0", f"data.num_images={images}")
    done = vtrain("fit", small_run, "--run-dir", "run", "train.epochs=1", *change)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == -(-images // 32)


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"new\nline.png", b"\x1b[31mred.png"])
def test_a_bad_image_with_an_odd_name_is_one_printable_line(
    photographs: Path, vtrain: Vtrain, name: bytes
) -> None:
    """E14: neither the terminal nor a JSON file is spoilt by a name."""
    path = VICTIM.parent / os.fsdecode(name)
    shutil.copy(VICTIM, path)
    assert vtrain("fit", photographs, "--run-dir", "run").code == 0
    path.write_bytes(b"hello")
    done = vtrain("fit", photographs, "--run-dir", "other")
    assert done.code == 3
    assert "not a readable image" in one_line(done)
    done = vtrain("predict", VICTIM.parent, "--ckpt", "run", "--format", "json")
    assert done.code == 3
    assert len(json.loads(done.out)) == 9
    done.out.encode("utf-8")


@pytest.mark.parametrize("name", ["cifar10", "imagenet", "flowers102"])
def test_an_absent_dataset_is_one_line_with_the_way_out(
    photographs: Path, vtrain: Vtrain, name: str
) -> None:
    """E19: nothing is downloaded that nobody asked for."""
    done = vtrain("fit", photographs, f"data.name={name}", "data.root=none", "--run-dir", "run")
    assert done.code == 3
    assert re.search("is not there|present in the root", one_line(done))
    assert not Path("none").exists()


def test_a_bad_validation_image_loses_no_training(photographs: Path, vtrain: Vtrain) -> None:
    victim = Path("photos/val/cat/1.png")
    sound = victim.read_bytes()
    victim.write_bytes(sound[:200])
    done = vtrain("fit", photographs, "--run-dir", "run")
    assert done.code == 3
    assert re.search(r"a damaged image \(.*photos/val/cat/1\.png", one_line(done))
    victim.write_bytes(sound)
    command = ("fit", photographs, "--run-dir", "run", "--resume")
    assert "--accept-data-change" in one_line(vtrain(*command))  # the file's size is another one
    again = vtrain(*command, "--accept-data-change")
    assert again.code == 0, again.err
    assert "step-00000001.pt: 1 step, 1 epoch done" in again.err


@pytest.mark.parametrize(("policy", "code"), [("error", 3), ("skip", 0)])
def test_a_file_that_vanishes_after_the_scan_is_a_bad_image(
    photographs: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, policy: str, code: int
) -> None:
    """E15: the scan ends before the start screen is shown."""
    say_start = screens.say_start
    gone = VICTIM.read_bytes()
    monkeypatch.setattr(screens, "say_start", lambda *rest: (say_start(*rest), VICTIM.unlink()))
    skip = (f"data.on_bad_image={policy}", "data.cache=none")
    done = vtrain("fit", photographs, "--run-dir", "run", *skip)
    assert done.code == code, done.err
    assert re.search(rf"(error|left out): no such image file \(.*{VICTIM}", done.err)
    monkeypatch.setattr(screens, "say_start", say_start)
    VICTIM.write_bytes(gone)
    assert vtrain("fit", photographs, "--run-dir", "run", "--resume", *skip).code == 0


@pytest.mark.parametrize("locked", ["photos/train/cat/3.png", "photos/train/cat", "photos"])
def test_what_may_not_be_read_is_named(
    photographs: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    """E1 and E16: a file, a folder of a class, and the root, for a user whom permissions bind."""
    files = {path: path.read_bytes() for path in Path("photos").rglob("*.png")}
    config = photographs.read_text()
    assert vtrain("fit", photographs, "--run-dir", "run").code == 0  # and all modules are imported
    with as_nobody() as folder:
        monkeypatch.chdir(folder)
        Path("photos.yaml").write_text(config)
        for path, image in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
        mode = Path(locked).stat().st_mode
        Path(locked).chmod(0)
        done = vtrain("fit", "photos.yaml", "--run-dir", "run")
        assert done.code == 3, done.err
        assert re.search(rf"Permission denied \(.*{locked}", one_line(done))
        Path(locked).chmod(mode)
        again = vtrain("fit", "photos.yaml", "--run-dir", "run", "--resume")
        assert again.code == 0, again.err
        monkeypatch.undo()  # before the folder goes


def test_a_label_that_is_no_class_is_refused_before_training(
    photographs: Path, vtrain: Vtrain
) -> None:
    """E18: MNIST's files as they should be, but for one label; the images are holes in a file."""
    raw = Path("sets/MNIST/raw")
    raw.mkdir(parents=True)
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        with (raw / f"{part}-images-idx3-ubyte").open("wb") as file:
            file.write(bytes([0, 0, 8, 3]) + struct.pack(">III", count, 28, 28))
            file.truncate(16 + count * 28 * 28)
        labels = bytes(count - 1) + bytes([10 if part == "train" else 9])
        head = bytes([0, 0, 8, 1]) + struct.pack(">I", count)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels)
    before = content(Path("sets"))
    mnist = "data={name: mnist, root: sets, image_size: 16}"
    done = vtrain("fit", photographs, mnist, "--run-dir", "run")
    assert done.code == 3
    assert re.search(r"class 10 of an image is not in 0 \.\. 9 \(1 image", one_line(done))
    assert content(Path("sets")) == before


def test_a_hostile_pickle_among_the_files_of_a_dataset_is_never_opened(
    photographs: Path, vtrain: Vtrain
) -> None:
    """E22: torchvision opens pickles whose MD5 is the one it knows, and there is no way around."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch canary",)

    folder = Path("sets/cifar-10-batches-py")
    folder.mkdir(parents=True)
    names = ["batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))]
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    cifar = "data={name: cifar10, root: sets, image_size: 16}"
    done = vtrain("fit", photographs, cifar, "--run-dir", "run")
    assert done.code == 3
    assert "CIFAR10 is not there or not complete" in one_line(done)
    assert not Path("canary").exists()
    assert len(content(Path("sets"))) == len(names)
