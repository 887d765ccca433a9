import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import plant
from vtrain.data.datasets.builtin import Digits, Fake
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.splits import Split
from vtrain.data.inspect.scan import Copy, scan
from vtrain.data.inspect.scan_text import scan_lines
from vtrain.data.preprocess import Preprocess


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(
        tmp_path / "set",
        *("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/dog/notes.txt"),
        *("val/cat/8.png", "val/dog/9.png"),
    )


def test_a_scan_counts_classes_sizes_and_ignored_files(root: Path) -> None:
    report = scan(ImageFolder(root=root))
    train, val = report.splits["train"], report.splits["val"]
    assert (train.images, val.images) == (3, 2)
    assert train.per_class == {"cat": 2, "dog": 1}
    assert val.per_class == {"cat": 1, "dog": 1}
    assert train.sizes == {"4 x 4": 3}
    assert train.ignored == {".txt": 1}
    assert train.bad == val.bad == report.duplicates == []


def test_bad_files_are_listed_and_end_nothing(root: Path) -> None:
    (root / "train/cat/2.png").write_bytes(b"spoilt")
    (root / "val/dog/9.png").write_bytes(b"")
    (root / "val/dog/link.png").symlink_to(root / "gone.png")
    report = scan(ImageFolder(root=root))
    (bad,) = report.splits["train"].bad
    assert bad.name.endswith("train/cat/2.png")
    assert "not a readable image" in bad.what
    found = {Path(bad.name).name: bad.what for bad in report.splits["val"].bad}
    assert "the file is empty" in found["9.png"]
    assert found["link.png"] == "no such image file"


def test_exact_duplicates_are_found_within_and_across_splits_and_classes(root: Path) -> None:
    original = (root / "train/cat/1.png").read_bytes()
    (root / "train/cat/again.png").write_bytes(original)
    (root / "train/dog/wrong.png").write_bytes(original)
    (root / "val/cat/leak.png").write_bytes((root / "train/cat/2.png").read_bytes())
    report = scan(ImageFolder(root=root))
    groups = {tuple(sorted(Path(c.name).name for c in group)): group for group in report.duplicates}
    assert set(groups) == {("1.png", "again.png", "wrong.png"), ("2.png", "leak.png")}
    assert report.leaks == [groups["2.png", "leak.png"]]
    assert report.contradictions == [groups["1.png", "again.png", "wrong.png"]]
    assert Copy("val", "cat", str(root / "val/cat/leak.png")) in groups["2.png", "leak.png"]


def test_a_report_is_json_and_printable_text_whatever_the_names(root: Path) -> None:
    for name in (b"\xff.png", b"\x1b[31m.png", b"new\nline.png"):
        (root / "train/cat" / os.fsdecode(name)).write_bytes(b"spoilt")
    report = scan(ImageFolder(root=root))
    json.loads(json.dumps(report.to_dict(), ensure_ascii=False).encode("utf-8"))
    lines = list(scan_lines(report))
    assert all(line.isprintable() for line in lines)
    assert "train: 6 images in 2 classes" in lines
    assert "  bad: 3 images cannot be read" in lines


def test_the_text_of_a_large_report_stays_short(tmp_path: Path) -> None:
    names = [f"{split}/c{i:03d}/x{i}.png" for i in range(60) for split in ("train", "val")]
    plant(tmp_path, *names)
    for path in tmp_path.glob("train/*/*.png"):
        path.write_bytes(b"spoilt " + path.name.encode())
    lines = list(scan_lines(scan(ImageFolder(root=tmp_path))))
    assert len(lines) < 90
    assert "    and 40 more" in lines


def test_arrays_and_selections_are_scanned_too() -> None:
    report = scan(Digits())
    assert report.splits["train"].sizes == {"8 x 8": report.splits["train"].images}
    report = scan(Split(Fake(num_images=100), val_fraction=0.2))
    assert report.splits["val"].images == 20
    assert report.duplicates == []


def test_a_held_out_part_is_scanned_by_file(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(5)))
    (tmp_path / "b/4.png").write_bytes((tmp_path / "a/0.png").read_bytes())
    report = scan(Split(ImageFolder(root=tmp_path), val_fraction=0.4))
    assert sum(split.images for split in report.splits.values()) == 10
    assert len(report.contradictions) == 1


@pytest.mark.slow
def test_the_real_cifar10_is_scanned_in_under_a_minute() -> None:
    folder = os.environ.get("VTRAIN_CIFAR10")
    if not folder:
        pytest.skip("VTRAIN_CIFAR10 is not set")
    started = time.monotonic()
    report = scan(Split(ImageFolder(root=Path(folder))))
    assert time.monotonic() - started < 60
    assert [split.images for split in report.splits.values()] == [50_000, 10_000]
    assert all(split.sizes == {"32 x 32": split.images} for split in report.splits.values())
    assert all(split.bad == [] for split in report.splits.values())


def deep(path: Path, low: int, high: int, **options: object) -> None:
    values = np.linspace(low, high, 16).reshape(4, 4).astype(np.uint16)
    Image.fromarray(values).save(path, **options)


def test_deep_images_that_use_a_fraction_of_their_range_are_told(root: Path) -> None:
    for name in ("cat/1", "dog/1"):  # as cameras of 12 bits write them
        deep(root / f"train/{name}.tif", 0, 4095)
    deep(root / "val/cat/1.tif", 0, 65535)
    deep(root / "val/dog/1.tif", 0, 4095, tiffinfo={281: 4095})
    report = scan(ImageFolder(root=root))
    train, val = report.splits["train"], report.splits["val"]
    assert (train.deep, train.deep_levels) == (2, (0, 16))
    assert (val.deep, val.deep_levels) == (2, (0, 255))
    text = "\n".join(scan_lines(report))
    assert "range: 2 images of over 8 bits take levels 0 to 16 of 0 to 255" in text
    assert "(their values are 0 to 4095)" in text
    assert "set data.value_range=[0, 4095]" in text
    assert (train.deep_values, val.deep_values) == ((0, 4095), (0, 65535))
    ranged = scan(ImageFolder(root=root), preprocess=Preprocess(32, value_range=(0.0, 4095.0)))
    assert ranged.splits["train"].deep_levels == (0, 255)
    assert "nearly of one grey" not in "\n".join(scan_lines(ranged))
    assert text.count("tag 281 (MaxSampleValue") == 1
    assert json.loads(json.dumps(report.to_dict()))["splits"]["train"]["deep_levels"] == [0, 16]


def test_images_of_8_bits_have_no_range(root: Path) -> None:
    text = "\n".join(scan_lines(scan(ImageFolder(root=root))))
    assert "range" not in text
    assert "pages" not in text


def test_files_of_several_pages_are_counted(root: Path) -> None:
    pages = [Image.new("L", (4, 4), value) for value in (10, 100, 200)]
    for name in ("cat/1.tif", "dog/1.gif", "dog/2.webp"):
        pages[0].save(root / f"train/{name}", save_all=True, append_images=pages[1:])
    # Of a telephone: the second picture is the map of the first one's brightness.
    pages[0].save(root / "train/dog/3.jpg", format="MPO", save_all=True, append_images=pages[1:])
    report = scan(ImageFolder(root=root))
    assert report.splits["train"].paged == 3
    assert "3 files have several pages or frames: only the first is used" in "\n".join(
        scan_lines(report)
    )
