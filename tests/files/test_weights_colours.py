"""Mean and std as timm and transformers write them beside the weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vtrain.files.weights import read_weights
from vtrain.files.weights_colours import colours_beside

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
    assert read_weights(tmp_path).colours == (tuple(MEAN), tuple(STD))


@pytest.mark.parametrize(
    "text", ["", "[]", "5", '{"mean": 1, "std": 2}', '{"mean": ["a"], "std": [1]}', "[" * 100_000]
)
def test_what_is_no_such_file_says_nothing(tmp_path: Path, text: str) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(text)
    assert colours_beside(tmp_path) is None
