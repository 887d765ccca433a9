"""Mean and std as timm and transformers write them beside the weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vtrain.files.weights import read_weights
from vtrain.files.weights_colours import Colours, colours_beside, colours_in

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"architecture": "vit", "pretrained_cfg": {"mean": MEAN, "std": STD}}),
        ("config.json", {"mean": MEAN, "std": STD}),
        ("preprocessor_config.json", {"image_mean": MEAN, "image_std": STD, "size": 224}),
    ],
)
def test_they_are_read_beside_the_weights(tmp_path: Path, name: str, content: Any) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert read_weights(tmp_path).colours is None
    (tmp_path / name).write_text(json.dumps(content))
    assert read_weights(tmp_path).colours == Colours(
        tuple(MEAN), tuple(STD), f"{name} beside the weights"
    )


def test_a_link_is_read_with_what_lies_beside_it(tmp_path: Path) -> None:
    """The hub's cache holds links to files that lie elsewhere."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    save_file({"w": torch.zeros(2)}, tmp_path / "blobs/0")
    link = tmp_path / "snapshot/model.safetensors"
    link.symlink_to("../blobs/0")
    (tmp_path / "snapshot/config.json").write_text(json.dumps({"mean": MEAN, "std": STD}))
    found = read_weights(link)
    assert found.tensors.keys() == {"w"}
    assert found.colours is not None
    assert found.colours.mean == tuple(MEAN)


def test_what_an_export_says_in_its_own_file_comes_first(tmp_path: Path) -> None:
    stated = {"preprocess": json.dumps({"mean": MEAN, "std": STD}), "classes": '["cat", "dog"]'}
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors", stated)
    (tmp_path / "config.json").write_text(json.dumps({"mean": STD, "std": STD}))
    found = read_weights(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.colours == Colours(tuple(MEAN), tuple(STD), "the file of the weights")


@pytest.mark.parametrize("stated", [{"preprocess": "{"}, {"classes": "[]"}, {"format": "pt"}])
def test_metadata_of_others_says_nothing(tmp_path: Path, stated: dict[str, str]) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors", stated)
    assert read_weights(tmp_path).colours is None


def test_values_up_to_255_are_scaled() -> None:
    # As transformers' segmentation models and mmpretrain write ImageNet's.
    facts = {"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}
    found = colours_in(facts, "image_mean", "image_std", "here")
    assert found is not None
    assert found.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-6)
    assert found.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-6)


def test_where_transformers_does_not_normalise_nothing_is_subtracted() -> None:
    facts = {"image_mean": MEAN, "image_std": STD, "do_normalize": False}
    found = colours_in(facts, "image_mean", "image_std", "here")
    assert found == Colours((0.0,) * 3, (1.0,) * 3, "here")


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.5, 0.5, 0.5], [0.5, 0.5]),
        ([], []),
        ([0.5], [0.0]),
        ([-0.1], [0.5]),
        ([1.0], [0.5]),
        ([300.0], [1.0]),
        ([float("nan")], [0.5]),
        ([0.5], [float("inf")]),
        ([True], [True]),
        ("0.5", "0.5"),
    ],
)
def test_impossible_numbers_say_nothing(mean: Any, std: Any) -> None:
    assert colours_in({"mean": mean, "std": std}, "mean", "std", "here") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "5", '{"mean": 1, "std": 2}', '{"mean": ["a"], "std": [1]}', "[" * 100_000]
)
def test_what_is_no_such_file_says_nothing(tmp_path: Path, text: str) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(text)
    assert colours_beside(tmp_path) is None
