import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photos import BY_HAND, KINDS, by_hand, make_messy, save_as
from vtrain.config import load_config
from vtrain.data.datasets.folder import ImageFolder
from vtrain.files.images import read_image


def test_the_folder_has_every_picture_and_one_that_is_damaged(tmp_path: Path) -> None:
    pictures = tmp_path / "assets"
    pictures.mkdir()
    for letter in KINDS:
        for number in range(1, 3):
            Image.new("RGB", (30, 20), (90, 50, 9)).save(pictures / f"{letter}{number:03}.jpeg")
    assert make_messy(pictures, tmp_path / "photos") == 2 * len(KINDS)
    listed = ImageFolder(root=tmp_path / "photos").split("train")
    assert len(listed) == 2 * len(KINDS) + 1


def test_whatever_the_format_the_picture_is_the_same(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], 40, 1)  # grows downwards
    picture = Image.fromarray(np.repeat(ramp, 3, 2))
    for number in range(10):
        save_as(picture, tmp_path / str(number), number, random.Random(0))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 10
    for file in files:
        upright = np.asarray(read_image(file).resize((40, 60)), float).mean(2)
        assert np.abs(upright - ramp[..., 0]).mean() < 12, file


@pytest.mark.parametrize("name", BY_HAND)
def test_a_config_by_hand_is_one(tmp_path: Path, name: str) -> None:
    path, *overrides = by_hand(tmp_path, BY_HAND[name])
    assert load_config(Path(path), overrides).train.epochs == 94
