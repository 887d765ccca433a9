"""No command is silent for long: each thing that may take a while is slowed, and must be said."""

import io
import re
import shlex
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain, run
from vtrain.data import progress

SLOW = 0.4
"""Seconds that each slowed thing takes longer, beyond a patience of 0.1."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run on photographs, a list of them, and a shard."""
    folder = tmp_path_factory.mktemp("silence")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        few = {"cat": 3, "dog": 3}
        plant_photographs({"train": few, "val": few})
    (folder / "small.yaml").write_text(over_photographs(SMALL_RUN))
    done = run(folder, "fit", "small.yaml", "--run-dir", "run", "train.max_steps=1")
    assert done.code == 0, done.err
    shutil.copytree(folder / "run", folder / "other")
    rows = [
        f"photos/{split}/{label}/{n}.png,{label},{split}\n"
        for split in ("train", "val")
        for label in few
        for n in range(3)
    ]
    (folder / "list.csv").write_text("path,label,split\n" + "".join(rows))
    with tarfile.open(folder / "train.tar", "w") as archive:
        for number, label in enumerate(("cat", "dog", "cat", "dog")):
            png = io.BytesIO()
            Image.new("RGB", (16, 16), (number, 0, 0)).save(png, "PNG")
            for ending, content in (("png", png.getvalue()), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folder


def slowed(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does the same, the first time later."""
    waits = [SLOW]

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(waits.pop() if waits else 0)
        return work(*arguments, **options)

    return slow


CSV = "'data={name: csv, file: list.csv, image_size: 16}'"
SHARDS = "'data={name: webdataset, root: ., val: train.tar, image_size: 16}'"
NEW = "--run-dir new train.max_steps=1"


@pytest.mark.parametrize(
    ("command", "slow", "said"),
    [
        ("check small.yaml", "data.datasets.folder_listing.list_folder", "listing images in train"),
        (f"check small.yaml {CSV}", "data.datasets.csv_list._row", "reading list.csv"),
        (
            f"check small.yaml {SHARDS}",
            "data.datasets.tar_index._label",
            "listing images in train shards",
        ),
        (
            "check small.yaml data.val_fraction=0.5",
            "data.datasets.splits.places",
            "choosing images by their names",
        ),
        ("check photos", "run.photos._sides", "looking at some of the images"),
        ("check small.yaml", "run.check.profile_run", "counting what a step costs"),
        (
            "check small.yaml model.pretrained=run/best.pt",
            "run.build.model.load_pretrained",
            "reading .*/run/best.pt",
        ),
        ("check small.yaml --data", "data.inspect.scan.look", "reading every image"),
        ("check small.yaml --lr-find", "engine.trainer.set_lr", "trying rates"),
        (f"fit small.yaml {NEW}", "data.loading.cache.ThreadPoolExecutor", "decoding"),
        (f"fit small.yaml {NEW}", "engine.trainer.loss_weight", "making the first step"),
        (f"fit small.yaml {NEW}", "inference.evaluate.sums", "evaluating"),
        (
            "fit run --resume train.max_steps=2",
            "files.container.verify_file",
            "looking for the newest intact checkpoint",
        ),
        (
            "fit small.yaml --resume train.max_steps=1",
            "files.runs._folders",
            "looking for runs of small",
        ),
        ("eval --ckpt run", "inference.loaded.model_of", "loading run/best.pt"),
        ("eval --ckpt run", "inference.evaluate.sums", "evaluating"),
        ("predict photos --ckpt run", "inference.files.read_image", "predicting"),
        (
            "predict photos/*/*/*.png --ckpt run",
            "run.find_images.glob.glob",
            r"looking for photos/\*/\*/\*.png",
        ),
        ("report run", "run.report.analyse", "computing the figures"),
        ("report run", "run.report.run_page", "drawing the page"),
        ("report run", "run.gallery_maps.overlaid", "explaining images of the galleries"),
        ("report run --cost", "run.measure.speed", "timing the model"),
        ("report run other", "run.report.compare_runs", "comparing the runs"),
        (
            "export run --format safetensors --force",
            "run.export.write_weights",
            "writing run/model_timm.safetensors",
        ),
        (
            "export run --format safetensors --force",
            "export.proof.parts",
            "comparing the file with the model",
        ),
        ("explain photos/val --ckpt run", "run.explain.picture", "explaining"),
        ("verify run", "run.verify.verify", "reading run"),
        ("models vit_ti", "models.profile.count_macs", "counting operations"),
    ],
)
def test_what_takes_long_is_said(
    command: str,
    slow: str,
    said: str,
    trained: Path,
    tmp_path: Path,
    vtrain: Vtrain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    monkeypatch.setattr(progress, "SHORT", 0.1)
    monkeypatch.setattr("vtrain.run.measure.SECONDS", 0.01)
    module, _, name = f"vtrain.{slow}".rpartition(".")
    monkeypatch.setattr(resolve_name(module), name, slowed(resolve_name(f"{module}.{name}")))
    done = vtrain(*shlex.split(command))
    assert done.code == 0, done.err
    assert re.search(rf"^{said} \.\.\.$", done.err, re.M), done.err
    assert "..." not in done.out
