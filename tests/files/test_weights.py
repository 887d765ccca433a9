import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vtrain.errors import CheckpointError
from vtrain.files.weights import file_in, read_weights

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.float16)}


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_content_and_not_the_name_says_how_a_file_is_read(tmp_path, save, name: str) -> None:
    save(TENSORS, tmp_path / name)
    found = read_weights(tmp_path / name).tensors
    assert found.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        assert torch.equal(found[key], tensor)
        assert found[key].dtype == tensor.dtype


@pytest.mark.parametrize("keep", [9, 100, -1])
def test_truncated_safetensors_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or corrupt") as caught:
        read_weights(path)
    assert len(caught.value.lines()) == 1


@pytest.mark.parametrize(
    ("length", "shape"), [(10**12, [2]), (None, [2**40]), (None, [2**62, 4]), (None, [-1])]
)
def test_safetensors_that_claim_more_than_they_hold_are_refused(tmp_path, length, shape) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "w"
    path.write_bytes(struct.pack("<Q", length or len(header)) + header + bytes(8))
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        read_weights(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("dump", [torch.save, lambda bomb, path: path.write_bytes(bomb)])
def test_code_in_a_file_is_never_executed(tmp_path: Path, dump, name: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / name
    content = {"model": TENSORS, "args": Bomb(canary)}
    dump(content if dump is torch.save else pickle.dumps(content), path)
    with pytest.raises(CheckpointError, match=r"refused|pickle"):
        read_weights(path)
    assert not canary.exists()


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent"):
        with pytest.raises(CheckpointError):
            read_weights(path)


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["best.pt", "last.pt", "step-00000002.pt"], "best.pt"),
        (["last.pt", "optimizer.pt"], "last.pt"),
        (["model.safetensors", "optimizer.pt", "training_args.bin"], "model.safetensors"),
        (["pytorch_model.bin", "scheduler.pt"], "pytorch_model.bin"),
        (["deit_small.pth", "README.md"], "deit_small.pth"),
        (["model_best.pth.tar", "last.pth.tar", "args.yaml"], "model_best.pth.tar"),
        (["epoch=1-step=2.ckpt"], "epoch=1-step=2.ckpt"),
        (["ViT-B_16.npz"], "ViT-B_16.npz"),
    ],
)
def test_a_folder_stands_for_the_weights_in_it(
    tmp_path: Path, files: list[str], taken: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert file_in(tmp_path) == tmp_path / taken


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["README.md"], "no file of weights in this folder"),
        (["a.pt", "b.pth"], r"2 files of weights in this folder: a.pt, b.pth .*: name one"),
    ],
)
def test_a_folder_without_one_file_of_weights_is_told(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=message):
        file_in(tmp_path)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        # As the Trainer of transformers leaves them,
        (["checkpoint-1/model.safetensors", "checkpoint-2/model.safetensors"], "checkpoint-2"),
        # as vtrain does, timm's script and Lightning,
        (["2026-01-01_10-00-00/best.pt", "2026-01-02_10-00-00/best.pt"], "2026-01-02_10-00-00"),
        (["train/a/model_best.pth.tar", "train/b/model_best.pth.tar"], "train/b"),
        (["version_0/checkpoints/epoch=1-step=2.ckpt"], "version_0/checkpoints"),
        # and as the hub keeps what was downloaded.
        (["refs/main", "snapshots/0123/model.safetensors"], "snapshots/0123"),
    ],
)
def test_a_folder_of_folders_with_weights_names_one(
    tmp_path: Path, files: list[str], named: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError) as caught:
        file_in(tmp_path)
    assert str(caught.value).endswith(f"name one in it, such as {named}")
