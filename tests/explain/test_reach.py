import math
import re

import numpy as np
import pytest
import torch

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.explain.reach import Geometry, attention_reach
from vtrain.explain.recording import record
from vtrain.layers.windows import Windows
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer


def looks_at_all_alike(name: str, **arguments: object) -> ImageClassifier:
    """Return a model whose scores are all 0, so that only windows and masks say what is seen."""
    model = tiny(name, image_size=224, **arguments).eval()
    for key, parameter in model.named_parameters():
        if re.search(r"qkv|qk\b|\bq\b|relative_position_bias", key):
            parameter.data.zero_()
    return model


STAGES = {"patch_size": 4, "window_size": 7, "embed_dim": 8}
STAGES |= {"depths": (2, 1, 1, 1), "num_heads": (2, 2, 2, 2)}


@pytest.mark.parametrize(
    ("name", "arguments", "level", "known"),
    [
        ("vit_ti", {"patch_size": 16}, "patches", [116.5, 116.5]),
        ("deit_ti_distilled", {"patch_size": 16, "depth": 1}, "patches", [116.5]),
        ("tnt_ti", {"patch_size": 16, "depth": 1}, "patches", [116.5]),
        ("tnt_ti", {"patch_size": 16, "depth": 1}, "words", [8.0]),
        ("swin_t", STAGES, "patches", [14.4, None, 28.9, 57.8, 115.5]),  # the second is shifted
    ],
)
def test_uniform_attention_reaches_as_far_as_known(name, arguments, level, known) -> None:
    """At 224 pixels: both the dashed line and heads that look at all alike."""
    model = looks_at_all_alike(name, **arguments)
    layers = [r for r in attention_reach(model, [torch.randn(1, 3, 224, 224)]) if r.level == level]
    for layer, pixels in zip(layers, known, strict=True):
        np.testing.assert_allclose(layer.renormalised, layer.uniform, rtol=1e-5)
        np.testing.assert_allclose(layer.entropy, 1, rtol=1e-5)
        if pixels is not None:
            assert layer.uniform == pytest.approx(pixels, abs=0.05)


def test_the_dashed_line_equals_a_double_loop_over_what_the_mask_lets_meet() -> None:
    """Shifted and padded: 8 x 8 tokens of 4 pixels, windows of 5, rolled by 2."""
    windows = Windows(8, 8, 5, 2)
    total = 0.0
    for q in range(64):
        met = []
        for k in range(64):
            (y, x), (v, u) = ((t // 8 - 2, t % 8 - 2) for t in (q, k))
            # What the roll brings round the corner is a window of its own.
            parts = [(a // 5, a < 0) for a in (y, x)], [(a // 5, a < 0) for a in (v, u)]
            if parts[0] == parts[1]:
                met.append(4 * math.hypot(y - v, x - u))
        total += sum(met) / len(met) / 64
    layer = AttentionLayer("", "", 8, 8, (), windows)
    assert Geometry.of(layer, 32, 32).uniform == pytest.approx(total, rel=1e-9)


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


def test_the_reach_of_words_equals_a_double_loop() -> None:
    model, images = shaken(tiny("tnt_ti", inner_stride=2)).eval(), torch.randn(2, 3, 32, 32)
    found = attention_reach(model, [images])[0]
    weights = record(model, images).weights["blocks.0.attn_in"].double()  # (2 * 16, H, 16, 16)
    for head in range(weights.shape[1]):
        total = 0.0
        for A in weights[:, head].tolist():
            for q in range(16):
                for k in range(16):  # words are 2 pixels apart
                    total += A[q][k] * 2 * math.hypot(q // 4 - k // 4, q % 4 - k % 4) / 512
        assert found.as_published[head] == pytest.approx(total, rel=1e-6)
        assert found.renormalised[head] == pytest.approx(total, rel=1e-6)
