"""What is not used of images is said once, with the number, by whoever reads them."""

from pathlib import Path

import pytest
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain
from vtrain.data.unused import Unused
from vtrain.files.surplus import Surplus

PAGED = "several pages or frames: only the first is used"
BANDED = "more channels than are used (data.channels), such as transparency, which is put on white"


def test_it_is_said_once_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    unused = Unused("training ")
    unused.say()
    for index in (1, 2, 2):
        unused.note(index, Surplus.PAGES)
    unused.note(3, Surplus.PAGES | Surplus.CHANNELS)
    unused.note(4, Surplus.NONE)
    assert list(unused.said_after("ab")) == ["a", "b"]
    unused.note(5, Surplus.PAGES)
    unused.say()
    assert caplog.messages == [
        f"note    3 training images have {PAGED}",
        f"note    1 training image has {BANDED}",
    ]


def test_of_a_part_of_the_images_the_number_is_the_least(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    unused = Unused(is_part=True)
    unused.note(0, Surplus.CHANNELS)
    unused.say()
    assert caplog.messages == [f"note    at least 1 image has {BANDED}"]


@pytest.fixture
def photos(small_run: Path) -> Path:
    """Photographs of four classes: of the first, 2 have pages and 1 transparency in each split."""
    labels = "abcd"
    plant_photographs({split: dict.fromkeys(labels, 4) for split in ("train", "val")})
    for split in ("train", "val"):
        folder = Path("photos", split, "a")
        for number, kind in enumerate(("gif", "tif")):
            (folder / f"{number}.png").unlink()
            pages = [Image.effect_noise((16, 16), 50 + n) for n in range(3)]
            pages[0].save(folder / f"{number}.{kind}", save_all=True, append_images=pages[1:])
        Image.new("RGBA", (16, 16), (9, 9, 9, 100)).save(folder / "2.png")
    small_run.write_text(over_photographs(SMALL_RUN))
    return small_run


@pytest.mark.parametrize(
    "how",
    [
        ("data.cache=ram", "data.num_workers=0"),
        ("data.cache=none", "data.num_workers=0"),
        ("data.cache=none", "data.num_workers=2"),
    ],
)
def test_fit_eval_and_predict_say_what_they_leave_unused(
    photos: Path, vtrain: Vtrain, how: tuple[str, ...]
) -> None:
    done = vtrain("fit", photos, "--run-dir", "run", "train.epochs=2", *how)
    assert done.code == 0, done.err
    for whose in ("training images", "images"):
        assert done.err.count(f"note    2 {whose} have {PAGED}") == 1
        assert done.err.count(f"note    1 {whose.removesuffix('s')} has {BANDED}") == 1
    done = vtrain("eval", "--ckpt", "run", *how)
    assert done.err.count(f"note    2 images have {PAGED}") == 1
    done = vtrain("predict", "photos/val", "--ckpt", "run", "--ckpt", "run/last.pt")
    assert done.err.count(f"note    2 images have {PAGED}") == 1
    assert done.err.count(f"note    1 image has {BANDED}") == 1
    done = vtrain("predict", "photos/val/b", "--ckpt", "run")
    assert "note" not in done.err


def test_it_is_said_where_training_ends_within_the_first_epoch(
    photos: Path, vtrain: Vtrain
) -> None:
    how = ("data.cache=none", "data.num_workers=0", "train.max_steps=1", "train.batch_size=15")
    done = vtrain("fit", photos, "--run-dir", "run", *how)
    assert done.code == 0, done.err
    # 15 of 16 images are in the first step: at least one of the two is.
    assert f"have {PAGED}" in done.err or f"has {PAGED}" in done.err
