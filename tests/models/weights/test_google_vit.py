"""Google's own files of ViT, `.npz` with the names and layouts of JAX."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer

from tests.conftest import tiny
from vtrain.errors import CheckpointError
from vtrain.models.pretrained import load_pretrained

Arrays = dict[str, NDArray[Any]]
D, HEADS, DEPTH, PATCH, CLASSES = 32, 2, 2, 8, 10
SIZES = {"patch_size": PATCH, "embed_dim": D, "depth": DEPTH, "num_heads": HEADS}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ViT-B_16.npz"


def released(norm2: int = 2, attention: int = 1, mlp: int = 3) -> Arrays:
    """Make the arrays of a small release; the numbers are those of the modules in its code."""
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> NDArray[Any]:
        return (0.1 * random.standard_normal(shape)).astype(np.float32)

    arrays = {
        "cls": drawn(1, 1, D),
        "embedding/kernel": drawn(PATCH, PATCH, 3, D),
        "embedding/bias": drawn(D),
        "Transformer/posembed_input/pos_embedding": drawn(1, 17, D),
        "Transformer/encoder_norm/scale": 1 + drawn(D),
        "Transformer/encoder_norm/bias": drawn(D),
        "head/kernel": drawn(D, CLASSES),
        "head/bias": drawn(CLASSES),
    }
    for index in range(DEPTH):
        block = f"Transformer/encoderblock_{index}"
        attn = f"{block}/MultiHeadDotProductAttention_{attention}"
        for part in ("query", "key", "value"):
            arrays[f"{attn}/{part}/kernel"] = drawn(D, HEADS, D // HEADS)
            arrays[f"{attn}/{part}/bias"] = drawn(HEADS, D // HEADS)
        arrays[f"{attn}/out/kernel"] = drawn(HEADS, D // HEADS, D)
        arrays[f"{attn}/out/bias"] = drawn(D)
        for number in (0, norm2):
            arrays[f"{block}/LayerNorm_{number}/scale"] = 1 + drawn(D)
            arrays[f"{block}/LayerNorm_{number}/bias"] = drawn(D)
        for number, (inputs, outputs) in enumerate(((D, 4 * D), (4 * D, D))):
            arrays[f"{block}/MlpBlock_{mlp}/Dense_{number}/kernel"] = drawn(inputs, outputs)
            arrays[f"{block}/MlpBlock_{mlp}/Dense_{number}/bias"] = drawn(outputs)
    return arrays


@pytest.mark.parametrize("save", ["as it is", "columns", "other bytes", "below a key"])
def test_it_computes_what_timm_makes_of_the_file(file: Path, tmp_path: Path, save: str) -> None:
    arrays = released()
    theirs = VisionTransformer(img_size=32, num_classes=CLASSES, **SIZES).eval()
    np.savez(tmp_path / "for_timm.npz", **arrays)
    theirs.load_pretrained(str(tmp_path / "for_timm.npz"))
    made = {
        "as it is": lambda a: a,
        "columns": np.asfortranarray,
        "other bytes": lambda a: a.astype(">f4"),
        "below a key": lambda a: a,
    }[save]
    prefix = "opt/target/" * (save == "below a key")
    np.savez(file, **{prefix + name: made(array) for name, array in arrays.items()})
    ours = tiny("vit_ti").eval()
    report = load_pretrained(ours, str(file))
    assert (report.key_mapping, report.new, report.unused) == ("Google ViT", (), ())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


def test_other_numbers_of_the_same_modules_are_read(file: Path) -> None:
    first, second = tiny("vit_ti"), tiny("vit_ti")
    np.savez(file, **released())
    load_pretrained(first, str(file))
    np.savez(file, **released(norm2=1, attention=0, mlp=0))
    load_pretrained(second, str(file))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_a_head_behind_a_hidden_layer_that_ours_has_not_starts_anew(file: Path) -> None:
    hidden = {"pre_logits/kernel": np.ones((D, D), "f4"), "pre_logits/bias": np.ones(D, "f4")}
    np.savez(file, **released(), **hidden)
    report = load_pretrained(tiny("vit_ti"), str(file))
    assert report.new == ("head.weight", "head.bias")
    assert "pre_logits.head.weight" in report.unused


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (lambda f, a: np.savez_compressed(f, **a), "compressed.*numpy.savez"),
        (lambda f, a: np.savez(f, x=np.array([{}], dtype=object), **a), "Python objects"),
        (lambda f, a: np.savez(f, numbers=np.arange(3)), "holds no weights"),
        (lambda f, a: f.write_bytes(f.read_bytes()[:2000]), "not a readable archive"),
    ],
)
def test_archives_that_are_no_plain_arrays_are_refused(file: Path, save, said: str) -> None:
    np.savez(file, **released())
    save(file, released())
    with pytest.raises(CheckpointError, match=said):
        load_pretrained(tiny("vit_ti"), str(file))
