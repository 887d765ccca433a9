"""Tables that are only shapes on the meta device."""

import subprocess
import sys

import pytest
import torch

from tests.conftest import stated, tiny
from vtrain.layers.constant import constant

FAMILIES = [
    ("vit_ti", {"position_embedding": "sincos_2d"}),
    ("tnt_ti", {}),
    ("swin_t", {"window_size": 5}),  # padded and shifted
    ("swin_t", {"absolute_position_embedding": True}),
    ("swinv2_t", {"window_size": 4}),
]


@pytest.mark.parametrize(("name", "arguments"), FAMILIES)
def test_a_model_without_data_has_the_tables_of_a_real_one(name, arguments) -> None:
    real = tiny(name, **arguments)
    with torch.device("meta"):
        meta = tiny(name, **arguments)
    expected = {key: (b.shape, b.dtype) for key, b in real.named_buffers()}
    assert {key: (b.shape, b.dtype) for key, b in meta.named_buffers()} == expected
    assert all(one.is_meta for one in meta.buffers())


def test_models_are_built_without_data_and_without_the_compiler() -> None:
    """Its import is slow, and makes a folder among the temporary files."""
    cases = [(name, {**stated(name, "TINY"), **arguments}) for name, arguments in FAMILIES]
    code = f"""
import sys, torch
from vtrain.registry import MODELS
for name, arguments in {cases!r}:
    with torch.device("meta"):
        MODELS[name](num_classes=10, image_size=32, **arguments)
    assert "torch._dynamo" not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_elsewhere_it_is_what_is_computed() -> None:
    table = torch.arange(6).view(2, 3)
    assert constant((2, 3), torch.int64, lambda: table) is table
    with torch.device("meta"):
        nothing = constant((2, 3), torch.int64, lambda: table)
    assert (nothing.is_meta, nothing.shape, nothing.dtype) == (True, (2, 3), torch.int64)
