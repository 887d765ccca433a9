import math

import numpy as np
import pytest
import torch

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.explain.reach import Geometry, attention_reach
from vtrain.explain.recording import record
from vtrain.layers.windows import Windows
from vtrain.models.layout import AttentionLayer


def uniform(rows: int, size: int, windows: Windows | None = None) -> float:
    layer = AttentionLayer("", "", rows, rows, (), windows)
    return Geometry.of(layer, size, size).uniform


def test_uniform_attention_reaches_as_far_as_known() -> None:
    """224 pixels: a ViT's patches of 16, the stages of a Swin, the words of a TNT's patch."""
    assert uniform(14, 224) == pytest.approx(116.5, abs=0.05)
    for rows, known in ((56, 14.4), (28, 28.9), (14, 57.8), (7, 115.5)):
        assert uniform(rows, 224, Windows(rows, rows, 7)) == pytest.approx(known, abs=0.05)
    assert uniform(8, 32, Windows(8, 8, 4)) == pytest.approx(8.0, abs=0.05)


@pytest.mark.parametrize("name", ["vit_ti", "deit_ti_distilled"])
def test_reach_equals_a_double_loop(name: str) -> None:
    model, images = shaken(tiny(name)).eval(), torch.randn(3, 3, 32, 32)
    weights = record(model, images).weights["blocks.1.attn"].double()  # (3, H, n, n)
    found = attention_reach(model, [images[:2], images[2:]])[1]
    P, side = weights.shape[-1] - 16, 4
    for head in range(weights.shape[1]):
        published = renormalised = entropy = prefix = 0.0
        for A in weights[:, head]:
            for q in range(16):
                row = A[P + q]
                distance = mass = 0.0
                for k in range(16):
                    far = 8 * math.hypot(q // side - k // side, q % side - k % side)
                    distance += row[P + k].item() * far
                    mass += row[P + k].item()
                published += distance / 48
                renormalised += distance / mass / 48
                prefix += row[:P].sum().item() / 48
                entropy -= sum(p * math.log(p) for p in row.tolist()) / math.log(16 + P) / 48
        assert found.as_published[head] == pytest.approx(published, rel=1e-6)
        assert found.renormalised[head] == pytest.approx(renormalised, rel=1e-6)
        assert found.prefix[head] == pytest.approx(prefix, rel=1e-6)
        assert found.entropy[head] == pytest.approx(entropy, rel=1e-6)


def test_in_shifted_padded_windows_only_what_may_meet_counts() -> None:
    model, images = shaken(tiny("swin_t", window_size=5)).eval(), torch.randn(2, 3, 32, 32)
    weights = record(model, images).of(model.attention_layout(32, 32).layers[1]).double()
    windows = model.attention_layout(32, 32).layers[1].windows
    order = windows.order.view(-1, 25)
    total = np.zeros(2)
    for window, tokens in enumerate(order.tolist()):
        for q, one in enumerate(tokens):
            for k, other in enumerate(tokens):
                if max(one, other) < 256:
                    far = 2 * math.hypot(one // 16 - other // 16, one % 16 - other % 16)
                    total += weights[:, window, :, q, k].mean(0).numpy() * far / 256
    found = attention_reach(model, [images])[1]
    np.testing.assert_allclose(found.as_published, total, rtol=1e-6)
    assert found.largest <= 2 * math.hypot(4, 4)  # what only the roll brought together is far apart
    assert found.uniform < found.largest


def test_entropy_is_one_where_all_is_looked_at_alike() -> None:
    model = tiny("vit_ti").eval()
    for block in model.blocks:
        block.attn.qkv.weight.data.zero_()
        block.attn.qkv.bias.data.zero_()
    for layer in attention_reach(model, [torch.randn(2, 3, 32, 32)]):
        np.testing.assert_allclose(layer.entropy, 1, rtol=1e-6)
        np.testing.assert_allclose(layer.renormalised, layer.uniform, rtol=1e-6)
        np.testing.assert_allclose(layer.prefix, 1 / 17, rtol=1e-6)


def test_words_reach_no_further_than_their_patch() -> None:
    model = shaken(tiny("tnt_ti", inner_stride=2)).eval()
    inner, outer = attention_reach(model, [torch.randn(2, 3, 32, 32)])[:2]
    assert (inner.level, outer.level) == ("words", "patches")
    assert (inner.renormalised <= 2 * math.hypot(3, 3)).all()
    assert inner.uniform == pytest.approx(4.0, abs=0.05)
