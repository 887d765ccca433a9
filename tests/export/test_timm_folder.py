"""Folders that timm loads: model, classes and preprocessing, and a card for people."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image

from tests.export.cases import CLASSES, evidence, loaded
from tests.export.test_script import draw_pictures
from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError, ConfigError
from vtrain.export import timm_folder
from vtrain.export.card import Card
from vtrain.export.timm_folder import FILES, timm_config, write_timm_folder
from vtrain.files.images import read_image

CARD = Card("photos", "seed: 0\n")


@pytest.mark.parametrize("name", ["vit_ti", "deit_ti_distilled", "swin_t", "swinv2_t", "tnt_ti"])
def test_timm_loads_the_folder_with_classes_and_weights(tmp_path: Path, name: str) -> None:
    arguments = {"window_size": 4} if "swin" in name else {}
    model, path = loaded(name, **arguments), tmp_path / "folder"
    asked = evidence(model)
    write_timm_folder(model, path, asked, {}, CARD)
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    assert list(tmp_path.iterdir()) == [path]
    theirs = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    assert tuple(theirs.pretrained_cfg["label_names"]) == CLASSES
    with torch.no_grad():
        given = theirs(model.geometry.normalise(torch.from_numpy(asked.images)))
    expected = torch.from_numpy(asked.logits)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_fraction": 1.0, "interpolation": "bilinear"},
        {"resize": "squash", "crop_fraction": 1.0},
    ],
)
def test_timms_transform_prepares_images_as_evaluation_does(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    model = loaded()
    # timm decodes in full whatever it needs.
    model = replace(model, geometry=replace(model.geometry, reducing_gap=None, **changes))
    write_timm_folder(model, tmp_path / "f", evidence(model), {}, CARD)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'f'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    draw_pictures(tmp_path / "pictures")
    for path in sorted((tmp_path / "pictures").iterdir()):
        image = read_image(path)
        if image.size != (32, 32):  # which vtrain takes as it is
            torch.testing.assert_close(
                transform(image)[None], model.preprocess(path), rtol=0, atol=1e-5
            )


def test_a_model_of_grey_images_is_one_in_timm(tmp_path: Path) -> None:
    grey = Preprocess(32, (0.4,), (0.2,), 1, crop_fraction=0.9, reducing_gap=None)
    model = loaded(geometry=grey)
    write_timm_folder(model, tmp_path / "f", evidence(model), {}, CARD)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'f'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    draw_pictures(tmp_path / "pictures")
    image = Image.open(tmp_path / "pictures" / "wide.png").convert("L")
    inputs = model.preprocess(image)
    torch.testing.assert_close(transform(image)[None], inputs, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(theirs(inputs), model.model(inputs), rtol=0, atol=1e-5)
    assert 'convert("L")' in (tmp_path / "f" / "README.md").read_text()


@pytest.mark.parametrize(
    ("geometry", "says"),
    [
        (Preprocess(32, resize="letterbox"), "data.resize=letterbox"),
        (Preprocess(32, icc=True), "data.icc=true"),
        (Preprocess(32, value_range=(0.0, 4095.0)), "data.value_range"),
        (Preprocess(32, (0.5,) * 4, (0.5,) * 4, 4), "data.channels=4"),
    ],
)
def test_what_timm_has_no_word_for_is_refused(geometry: Preprocess, says: str) -> None:
    model = loaded(geometry=geometry)
    with pytest.raises(ConfigError, match=re.escape(f"timm does not support {says}")):
        timm_config(model, timm_folder.Architecture.of(model))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, "another mean"),
        ({"crop_pct": 0.9}, "another crop_pct"),
        ({"interpolation": "bilinear"}, "another interpolation"),
    ],
)
def test_a_folder_with_other_preprocessing_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], says: str
) -> None:
    def faulty(*arguments: object) -> dict[str, object]:
        config = timm_config(*arguments)
        config["pretrained_cfg"] |= change
        return config

    monkeypatch.setattr(timm_folder, "timm_config", faulty)
    with pytest.raises(CheckpointError, match=says):
        write_timm_folder(loaded(), tmp_path / "f", evidence(loaded()), {}, CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_names_of_classes_or_another_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(change: dict[str, object]) -> None:
        right = lambda *a: {**timm_config(*a), **change}  # noqa: E731
        monkeypatch.setattr(timm_folder, "timm_config", right)
        with pytest.raises(CheckpointError):
            write_timm_folder(loaded(), tmp_path / "f", evidence(loaded()), {}, CARD)

    faulty({"label_names": [*CLASSES[1:], CLASSES[0]]})
    faulty({"architecture": "swin_tiny_patch4_window7_224"})
    faulty({"architecture": "no such"})
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_the_model_is_for_and_what_it_is_worth(tmp_path: Path) -> None:
    model = loaded()
    names = ("cat\n# head", "```", "dog\x1b[31m", *(f"class {k}" for k in range(7)))
    checkpoint = replace(model.checkpoint, metrics={"val/top1": 0.87654, "val/loss": 0.5})
    model = replace(model, classes=names, checkpoint=checkpoint)
    write_timm_folder(model, tmp_path / "f", evidence(model), {}, CARD)
    text = (tmp_path / "f" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["library_name"] == "timm"
    (entry,) = facts["model-index"]
    assert entry["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.8765}]
    headings = re.findall(r"^#+ (.*)$", body, re.M)
    assert headings == [
        "vit_ti on photos",
        "Intended use",
        "Use",
        "Results",
        "Limits",
        "How it was made",
    ]
    assert "| val/top1 | 0.8765 |" in body
    assert "\x1b" not in text
    assert body.count("\n```") == 2  # the example alone


def test_the_example_of_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded()
    write_timm_folder(model, tmp_path / "FOLDER", evidence(model), {}, CARD)
    Image.new("RGB", (50, 40), (200, 100, 0)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    text = Path("FOLDER/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    printed: list[object] = []
    exec(code, {"print": printed.append})
    expected = model.model(model.preprocess("photo.jpg")).argmax()
    assert printed == [CLASSES[expected]]
