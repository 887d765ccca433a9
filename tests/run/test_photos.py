from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.base_configs import EVERY_SECTION
from tests.harness import Vtrain
from vtrain.config import config_from_text
from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError, ConfigError, DataError
from vtrain.registry import MODELS
from vtrain.run.photos import Photos, photos_config


def folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (50, 40)) -> Path:
    """Write pictures of noise, each class with a tint of its own."""
    draw = np.random.default_rng(0)
    for tint, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., tint % 3] += 120
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return folder(tmp_path / "my photos", {"cat": 12, "dog": 12})


def test_a_folder_is_seen_as_it_is(photos: Path) -> None:
    assert Photos.of(photos) == Photos(photos, images=24, classes=2, side=40, has_val=False)


@pytest.mark.parametrize(
    ("size", "pixels"), [((20, 20), 32), ((32, 48), 32), ((70, 64), 64), ((400, 300), 64)]
)
def test_the_size_follows_the_images_as_far_as_a_processor_goes(
    tmp_path: Path, size: tuple[int, int], pixels: int
) -> None:
    config = photos_config(folder(tmp_path / "x", {"a": 2, "b": 2}, size))
    assert config.data.image_size == pixels
    assert config.model.model_dump()["patch_size"] * 8 == pixels


def test_nothing_is_held_out_where_there_is_a_val_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder(tmp_path / "x" / split, {"a": 3, "b": 3})
    assert photos_config(tmp_path / "x").data.model_dump()["val_fraction"] == 0


def test_few_images_get_more_epochs_than_many(tmp_path: Path) -> None:
    few = photos_config(folder(tmp_path / "few", {"a": 2, "b": 2}))
    many = photos_config(folder(tmp_path / "many", {"a": 500, "b": 500}, (8, 8)))
    assert few.train.epochs == 100
    assert many.train.epochs == 30


def test_what_is_not_chosen_has_the_default_of_a_config(photos: Path) -> None:
    """And not what stored configs of before a key did: large photographs would be decoded whole."""
    data = photos_config(photos).data.model_dump()
    written = config_from_text(EVERY_SECTION, "base.yaml")
    assert written.data.model_dump()["reducing_gap"] is None
    assert data["reducing_gap"] == Preprocess(32).reducing_gap


def test_overrides_win(photos: Path) -> None:
    config = photos_config(photos, ["train.epochs=7", "data.image_size=64", "model.patch_size=8"])
    assert (config.train.epochs, config.data.image_size) == (7, 64)


def test_fit_trains_on_a_folder_and_says_what_it_chose(vtrain: Vtrain, photos: Path) -> None:
    done = vtrain("fit", photos, "train.max_steps=1")
    assert done.code == 0, done.err
    assert "24 images of 2 classes" in done.err
    assert "held out" in done.err
    assert "epochs    100; the fewer images, the more\n" in done.err
    [run] = Path("runs/my photos").iterdir()
    assert "val_fraction: 0.2" in (run / "config.yaml").read_text()
    assert vtrain("predict", photos / "cat" / "0.png").code == 0


def test_a_damaged_photograph_is_named_and_left_out(vtrain: Vtrain, photos: Path) -> None:
    whole = (photos / "cat/0.png").read_bytes()
    (photos / "cat/damaged.png").write_bytes(whole[: len(whole) // 2])
    done = vtrain("fit", photos, "train.epochs=1", "schedule.warmup_epochs=0")
    assert done.code == 0, done.err
    assert "epochs    1\n" in done.err  # no reason for what was not chosen
    assert done.err.count("damaged.png") == 1
    assert "named and left out" in done.err


def test_a_stopped_run_of_a_folder_goes_on(vtrain: Vtrain, photos: Path) -> None:
    vtrain("fit", photos, "train.epochs=4", "train.max_steps=1", "schedule.warmup_epochs=0")
    [run] = Path("runs/my photos").iterdir()
    done = vtrain("fit", run, "--resume", "train.max_steps=2")
    assert done.code == 0, done.err
    assert [run] == list(Path("runs/my photos").iterdir())
    assert '"step": 2' in (run / "summary.json").read_text()


def test_weights_of_a_run_are_fine_tuned(vtrain: Vtrain, photos: Path) -> None:
    vtrain("fit", photos, "train.max_steps=1", "model.depth=2", "--run-dir", "first")
    done = vtrain("fit", photos, "--from", "first", "train.max_steps=1", "--run-dir", "second")
    assert done.code == 0, done.err
    text = Path("second/config.yaml").read_text()
    assert "depth: 2" in text
    assert f"pretrained: {Path('first/best.pt').absolute()}" in text


def test_weights_of_another_program_need_a_model_s_name(photos: Path) -> None:
    Path("weights.safetensors").touch()
    with pytest.raises(ConfigError) as caught:
        photos_config(photos, start="weights.safetensors")
    assert "model.name=" in caught.value.lines()[0]
    named = photos_config(photos, ["model.name=vit_s"], "weights.safetensors")
    assert named.model.pretrained == str(Path("weights.safetensors").absolute())


@pytest.mark.parametrize("first", ["first", "first/best.pt"])
def test_weights_named_by_an_override_choose_the_model_as_from_does(
    vtrain: Vtrain, photos: Path, first: str
) -> None:
    vtrain("fit", photos, "train.max_steps=1", "model.depth=2", "--run-dir", "first")
    config = photos_config(photos, [f"model.pretrained={first}"])
    assert config.model_dump() == photos_config(photos, start=first).model_dump()
    with pytest.raises(ConfigError, match="both name weights"):
        photos_config(photos, [f"model.pretrained={first}"], "other.pt")
    with pytest.raises(ConfigError, match="do not say which model they are for"):
        photos_config(photos, ["model.pretrained=hf-hub:timm/vit_small_patch16_224.augreg_in1k"])


@pytest.mark.parametrize("missing", ["nix.pt", "runs/nix", "timm/vit_tiny"])
def test_weights_that_are_not_there_are_said_to_be_missing(photos: Path, missing: str) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        photos_config(photos, start=missing)


def test_weights_beside_a_config_are_refused(vtrain: Vtrain, photos: Path) -> None:
    done = vtrain("fit", "vit_digits", "--from", "x.pt")
    assert (done.code, len(done.errors)) == (2, 1)


@pytest.mark.parametrize("counts", [{}, {"a": 0, "b": 0}])
def test_a_folder_without_images_is_one_line(tmp_path: Path, counts: dict[str, int]) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError):
        photos_config(folder(tmp_path / "x", counts))


@pytest.mark.parametrize("named", ["model.name=vit_s", "model=vit_s", "model=swin_t"])
def test_a_model_that_is_named_has_its_own_size(photos: Path, named: str) -> None:
    model = photos_config(photos, [named]).model.model_dump()
    expected = MODELS[model["name"]].default("embed_dim")
    assert model["name"] == named.rpartition("=")[2]
    assert model["embed_dim"] == expected


@pytest.mark.parametrize("override", ["data.root=elsewhere", "data.name=fake", "data=fake"])
def test_a_second_folder_is_refused(photos: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="is given beside a folder of images"):
        photos_config(photos, [override])


def test_images_that_cannot_be_read_say_why(photos: Path) -> None:
    for file in photos.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="no image can be read") as caught:
        photos_config(photos)
    assert caught.value.hint is not None
    assert "not a readable image" in caught.value.hint


def test_a_folder_is_checked_and_measured_as_it_is_trained(
    vtrain: Vtrain, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtrain.bench.machine.GEMM_SIZE", {"cpu": 128})
    monkeypatch.setattr("vtrain.bench.machine.COPY_BYTES", {"cpu": 1 << 20})
    assert "train: 18 images in 2 classes" in vtrain("check", str(photos), "--data").out
    assert "median shorter side" in vtrain("check", str(photos)).err
    asked = ("check", str(photos), "--from", "none.pt")
    assert "no such checkpoint" in vtrain(*asked).err
    assert "--from is for a folder" in vtrain("check", "vit_digits", *asked[2:]).err
    measured = vtrain("bench", str(photos), "--seconds", "0.1", "model.depth=1")
    assert "images/s" in measured.out
    assert "measuring for about 0:00" in measured.err


@pytest.mark.parametrize("place", ["here", "named", "below"])
def test_a_run_s_folder_is_not_made_among_the_classes(
    vtrain: Vtrain, photos: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(photos)
    more = {"here": [], "named": ["--run-dir", "run"], "below": ["--run-dir", photos / "cat/run"]}
    before = sorted(photos.rglob("*"))
    done = vtrain("fit", ".", "train.max_steps=1", *more[place])
    assert (done.code, len(done.errors)) == (2, 1)
    assert "would be a class of the images" in done.err
    assert sorted(photos.rglob("*")) == before
    if place == "here":  # one is enough: a run takes a while
        advised = done.err.rpartition("for example ")[2].split()
        assert vtrain("fit", ".", "train.max_steps=1", *advised).code == 0


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (".", "would be that of the images"),
        ("../link", "would be that of the images"),
        ("Validation/run", "would be a split of the images, by its name"),
    ],
)
def test_a_run_s_folder_is_neither_the_dataset_s_nor_called_like_a_split(
    vtrain: Vtrain, photos: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    (photos.parent / "set").mkdir()
    photos.rename(photos.parent / "set/train")
    (photos.parent / "link").symlink_to("set")
    monkeypatch.chdir(photos.parent / "set")
    done = vtrain("fit", ".", "train.max_steps=1", "--run-dir", place)
    assert (done.code, len(done.errors)) == (2, 1)
    assert said in done.err
    assert [path.name for path in Path().iterdir()] == ["train"]


def test_a_run_s_folder_may_lie_beside_the_splits(
    vtrain: Vtrain, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos.parent / "set").mkdir()
    photos.rename(photos.parent / "set/train")
    monkeypatch.chdir(photos.parent / "set")
    for _ in range(2):
        assert vtrain("fit", ".", "train.max_steps=1").code == 0
