"""Weights in several files, as `save_pretrained` of transformers cuts them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vtrain.errors import CheckpointError
from vtrain.files.weights import read_weights
from vtrain.files.weights_parts import parts_of

TENSORS = {f"blocks.{i}.weight": torch.full((2, 3), float(i)) for i in range(5)}


def cut(folder: Path, kind: str, parts: int = 2) -> Path:
    """Write `TENSORS` in parts, every second tensor in each, and their index."""
    stem, ending = {"safetensors": ("model", "safetensors"), "torch": ("pytorch_model", "bin")}[
        kind
    ]
    weight_map: dict[str, str] = {}
    for number in range(parts):
        name = f"{stem}-{number + 1:05d}-of-{parts:05d}.{ending}"
        some: dict[str, Tensor] = dict(list(TENSORS.items())[number::parts])
        weight_map |= dict.fromkeys(some, name)
        if kind == "safetensors":
            save_file(some, folder / name, {"format": "pt"})
        else:
            torch.save(some, folder / name)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 120}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_parts_are_read_as_one_by_their_folder_or_their_index(tmp_path: Path, kind: str) -> None:
    index = cut(tmp_path, kind)
    for source in (tmp_path, index):
        file = read_weights(source)
        assert file.place == "2 parts"
        assert file.tensors.keys() == TENSORS.keys()
        assert all(torch.equal(file.tensors[name], TENSORS[name]) for name in TENSORS)


def test_parts_may_be_links_as_in_the_hubs_cache(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    cut(tmp_path / "blobs", "safetensors")
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert read_weights(tmp_path / "snapshot").tensors.keys() == TENSORS.keys()


def test_a_part_that_is_missing_or_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    index = cut(tmp_path, "safetensors")
    part = tmp_path / "model-00002-of-00002.safetensors"
    save_file({"blocks.1.weight": TENSORS["blocks.1.weight"]}, part)
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors .* blocks\.3\.weight .*00002"):
        read_weights(index)
    part.unlink()
    with pytest.raises(
        CheckpointError, match="1 of the 2 parts are not there, such as model-00002"
    ):
        read_weights(index)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": ["a"]}',
        '{"weight_map": {"a": "../weights.bin"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": ".."}}',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(CheckpointError, match="not an index of weights"):
        parts_of(index)
