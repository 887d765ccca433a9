"""Images that look alike, found by signatures and by comparing all pairs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from vtrain.data.datasets.builtin import Digits
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.inspect import alike as module
from vtrain.data.inspect.alike import BYTES, DISTANCE, Signatures, near, nearest_pairs, signature
from vtrain.data.inspect.scan import scan
from vtrain.data.inspect.scan_text import scan_lines


def picture(seed: int, size: int = 64) -> Image.Image:
    """A smooth random picture, as photographs are."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def differing(one: bytes, other: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


def test_a_signature_says_where_it_becomes_brighter() -> None:
    ramp = np.broadcast_to(np.arange(9, dtype=np.uint8) * 20, (9, 9))
    image = Image.fromarray(ramp.copy()).convert("RGB")
    assert len(signature(image)) == BYTES
    assert signature(image) == b"\xff" * 8 + b"\x00" * 8  # to the right alone
    assert signature(image.transpose(Image.Transpose.TRANSPOSE)) == b"\x00" * 8 + b"\xff" * 8


@pytest.mark.parametrize("change", ["scaled", "recompressed", "brighter"])
def test_a_changed_copy_has_nearly_the_same_signature(change: str, tmp_path: Path) -> None:
    image = picture(0)
    if change == "scaled":
        copy = image.resize((40, 40))
    elif change == "recompressed":
        image.save(tmp_path / "x.jpg", quality=30)
        copy = Image.open(tmp_path / "x.jpg")
    else:
        copy = ImageEnhance.Brightness(image).enhance(0.8)
    assert differing(signature(image), signature(copy)) <= DISTANCE
    assert differing(signature(image), signature(picture(1))) > DISTANCE


def test_near_signatures_are_those_that_all_pairs_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 1 << 16, (60, 8), np.uint16)
    other = rng.integers(0, 1 << 16, (40, 8), np.uint16)
    for row in range(40):  # 0 to 9 bits away from a row of the first
        other[row] = one[row]
        for bit in rng.choice(128, row % 10, replace=False):
            other[row, bit // 16] ^= np.uint16(1 << (bit % 16))
    expected = {
        (a, b)
        for a in range(60)
        for b in range(40)
        if differing(one[a].tobytes(), other[b].tobytes()) <= DISTANCE
    }
    assert len(expected) == 32
    for pairs in (1 << 20, 3):  # in one go, and a few at a time
        monkeypatch.setattr(module, "PAIRS", pairs)
        found = {(*pair,) for a, b in near(one, other) for pair in np.stack([a, b], 1).tolist()}
        assert found == expected
    ranked, more = nearest_pairs(one, other, most=5)
    assert more
    assert ranked == [(0, 0), (10, 10), (20, 20), (30, 30), (1, 1)]
    assert nearest_pairs(one, other, most=100) == (nearest_pairs(one, other, 32)[0], False)


def test_a_part_that_too_many_share_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMON", 3)
    plain = np.zeros((4, 8), np.uint16)
    assert not any(len(a) for a, _ in near(plain, plain[:1]))
    assert any(len(a) for a, _ in near(plain[:3], plain[:1]))


def test_a_scan_names_validation_images_that_look_like_training_images(tmp_path: Path) -> None:
    for split, seeds in (("train", range(6)), ("val", range(6, 9))):
        (tmp_path / split / "a").mkdir(parents=True)
        for seed in seeds:
            picture(seed).save(tmp_path / split / "a" / f"{seed}.png")
    picture(2).resize((48, 48)).save(tmp_path / "val/a/smaller.png")
    picture(3).save(tmp_path / "val/a/exact.png")  # told as a duplicate, and not again
    picture(4).save(tmp_path / "val/a/packed.jpg", quality=60)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "train/a/white.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "val/a/white.png")
    report = scan(ImageFolder(root=tmp_path))
    found = {(Path(p.train.name).name, Path(p.val.name).name) for p in report.near_copies}
    assert found == {("2.png", "smaller.png"), ("4.png", "packed.jpg")}
    assert len(report.leaks) == 1
    lines = list(scan_lines(report))
    assert "near copies: 2 validation images look like a training image, and may be its copy" in (
        lines
    )
    assert report.to_dict()["near_copies"][0]["val"]["split"] == "val"


def test_no_pair_is_told_of_images_that_differ_or_of_none(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        (tmp_path / split / "a").mkdir(parents=True)
        picture(seed).save(tmp_path / split / "a" / "x.png")
    report = scan(ImageFolder(root=tmp_path))
    assert report.near_copies == []
    assert not [line for line in scan_lines(report) if "near" in line]
    empty = Signatures()
    samples = Digits().split("train")
    assert module.alike(empty, empty, (samples, samples)) == ([], False)
