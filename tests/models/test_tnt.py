"""TNT against its paper's numbers, loops over patches, and timm."""

import math
from pathlib import Path

import pytest
import torch
from timm.models.tnt import TNT as TimmTNT
from torch import Tensor, nn

from tests.conftest import tiny
from tests.models.agreement import (
    assert_loads_into_timm_and_back,
    assert_same_as_timm,
    meta,
    parameter_count,
    shaken,
)
from vtrain.models.tnt import TNT, Attention
from vtrain.registry import MODELS

TINY = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
"""The smallest arguments that still have every part of a model; 32-pixel images, 10 classes."""
FLIPS = {
    "inner_dim": 36,
    "inner_num_heads": 3,
    "inner_stride": 2,
    "layout": "legacy",
    "inner_position_embedding": False,
    "outer_position_embedding": False,
}
"""Another value of each key that this family alone has."""


def timm_like(model: TNT, image_size: int, patch_size: int, inner_stride: int = 4) -> nn.Module:
    """timm's TNT of the same shape and layout."""
    block = model.blocks[0]
    return TimmTNT(
        img_size=image_size,
        patch_size=patch_size,
        num_classes=model.num_classes,
        embed_dim=model.norm.normalized_shape[0],
        inner_dim=model.pixel_embed.proj.out_channels,
        depth=len(model.blocks),
        num_heads_inner=block.attn_in.num_heads,
        num_heads_outer=block.attn_out.num_heads,
        first_stride=inner_stride,
        legacy=model.pixel_embed.layout == "legacy",
    )


# Sizes.


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("tnt_ti", {}, 6_076_408),
        ("tnt_s", {}, 23_768_584),
        ("tnt_b", {}, 65_428_680),
        ("tnt_s_legacy", {}, 23_755_336),
        ("tnt_ti", {"patch_size": 4, "inner_stride": 1, "image_size": 32}, 5_859_994),
        ("tnt_ti", {"patch_size": 4, "inner_stride": 2, "image_size": 32}, 5_496_682),
        ("tnt_ti", {"patch_size": 8, "inner_stride": 2, "image_size": 32}, 5_850_778),
        ("tnt_ti", {"patch_size": 8, "inner_stride": 4, "image_size": 32}, 5_487_466),
    ],
)
def test_parameter_counts_are_the_published_ones(
    name: str, arguments: dict[str, int], parameters: int
) -> None:
    num_classes = 10 if arguments.get("image_size") == 32 else 1000
    model = meta(name, num_classes=num_classes, **arguments)
    assert parameter_count(model) == parameters


@pytest.mark.parametrize(("patch_size", "stride"), [(8, 3), (6, 4), (4, 5)])
def test_parameter_count_is_the_closed_form(patch_size: int, stride: int) -> None:
    d, c, K, depth, N = 24, 8, 7, 3, (24 // patch_size) ** 2
    m = math.ceil(patch_size / stride) ** 2
    block = 12 * c * c + 10 * c + 2 * m * c + m * c * d + 2 * d + 12 * d * d + 10 * d
    stem = 147 * c + c + m * c + 2 * m * c + m * c * d + d + 2 * d + d + (N + 1) * d
    model = meta(
        "tnt_s",
        num_classes=K,
        image_size=24,
        patch_size=patch_size,
        inner_stride=stride,
        embed_dim=d,
        inner_dim=c,
        depth=depth,
    )
    expected = stem + depth * block + 2 * d + d * K + K
    assert parameter_count(model) == expected


def test_shapes_are_the_published_ones() -> None:
    model, images = meta("tnt_s"), torch.empty(2, 3, 224, 224, device="meta")
    words, tokens = model.embed(images)
    assert words.shape == (392, 16, 24)
    assert tokens.shape == (2, 197, 384)
    assert [t.shape for t in model.blocks[0](words, tokens)] == [words.shape, tokens.shape]
    assert model.forward_features(images).shape == (2, 197, 384)
    assert model(images).shape == (2, 1000)


def test_drop_path_grows_linearly() -> None:
    rates = [block.drop_path.rate for block in meta("tnt_ti", drop_path_rate=0.1).blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])


# The inner transformer, against a loop over patches.


def loop_attention(attn: Attention, x: Tensor) -> Tensor:
    """Attention of one sequence (N, D), head by head and query by query."""
    d = x.shape[-1] // attn.num_heads
    q, k = (x @ attn.qk.weight.T).chunk(2, dim=-1)
    v = x @ attn.v.weight.T
    out = torch.zeros_like(x)
    for h in range(attn.num_heads):
        s = slice(h * d, (h + 1) * d)
        for i in range(len(x)):
            weights = torch.stack([q[i, s] @ key / d**0.5 for key in k[:, s]]).softmax(0)
            out[i, s] = sum(w * value for w, value in zip(weights, v[:, s], strict=True))
    result: Tensor = attn.proj(out)
    return result


def test_words_and_patches_equal_a_loop_over_patches() -> None:
    model = shaken(tiny("tnt_ti")).double()
    block, images = model.blocks[0], torch.randn(2, 3, 32, 32, dtype=torch.float64)
    words, tokens = model.embed(images)
    given_words, given_tokens = block.inner(words), block.join(block.inner(words), tokens)
    norms = (block.norm_in, block.norm_mlp_in)
    for b in range(2):
        torch.testing.assert_close(given_tokens[b, 0], tokens[b, 0], rtol=0, atol=0)
        for n in range(16):
            y, x = 8 * (n // 4), 8 * (n % 4)
            patch = model.pixel_embed.proj(images[b : b + 1, :, y : y + 8, x : x + 8])
            patch = (patch + model.pixel_pos)[0].flatten(1).T  # (m, c)
            patch = patch + loop_attention(block.attn_in, norms[0](patch))
            patch = patch + block.mlp_in(norms[1](patch))
            torch.testing.assert_close(given_words[16 * b + n], patch, rtol=0, atol=1e-10)
            joined = block.norm2_proj(block.proj(block.norm1_proj(patch.flatten())))
            token = tokens[b, 1 + n] + joined
            torch.testing.assert_close(given_tokens[b, 1 + n], token, rtol=0, atol=1e-10)


def test_outer_attention_equals_the_formula() -> None:
    attn = shaken(Attention(12, 3)).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    expected = torch.stack([loop_attention(attn, image) for image in x])
    torch.testing.assert_close(attn(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(attn(x, 2), expected[:, :2], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("layout", "seeing"), [("official", [0]), ("legacy", [0, 1, 4, 5])])
def test_words_see_another_patch_in_the_legacy_layout_alone(layout: str, seeing: list[int]) -> None:
    model = tiny("tnt_ti", layout=layout)
    first = torch.randn(1, 3, 32, 32)
    second = first.clone()
    second[:, :, :8, :8] += 1  # patch 0, up to the border of its neighbours
    differ = []
    for images in (first, second):
        words, _ = model.embed(images)
        for block in model.blocks:
            words = block.inner(words)
        differ.append(words)
    changed = (differ[0] != differ[1]).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == seeing  # of 4 by 4 patches


# The class token's shortcut.


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_last_block_computes_the_class_token_alone_exactly(checkpointing: bool) -> None:
    model = shaken(tiny("tnt_ti")).double()
    model.activation_checkpointing = checkpointing
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    direction = torch.randn(2, 10, dtype=torch.float64)
    outputs = []
    for compute in (model, lambda x: model.forward_head(model.forward_features(x))):
        model.zero_grad()
        logits = compute(images)
        logits.backward(direction)
        outputs.append([logits, *(p.grad for p in model.parameters())])
    for short, full in zip(*outputs, strict=True):
        torch.testing.assert_close(short, full, rtol=0, atol=1e-12 * full.abs().max().item())


# Options.


@pytest.mark.parametrize("option", ["inner_position_embedding", "outer_position_embedding"])
def test_each_position_embedding_changes_the_output(option: str) -> None:
    images, state = torch.randn(2, 3, 32, 32), shaken(tiny("tnt_ti")).state_dict()
    outputs = []
    for value in (False, True):
        model = tiny("tnt_ti", **{option: value}).eval()
        left = model.load_state_dict(state, strict=False)
        assert len(left.unexpected_keys) == (not value)
        outputs.append(model(images))
    assert not torch.allclose(*outputs, atol=1e-5)


def moved(images: Tensor, order: Tensor, patch_size: int) -> Tensor:
    """Put the patches of each image in another order."""
    grid = images.shape[-1] // patch_size
    patches = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    patches = patches.flatten(2, 3)[:, :, order].unflatten(2, (grid, grid))
    return patches.transpose(3, 4).flatten(4, 5).flatten(2, 3)


@pytest.mark.parametrize("positions", [False, True])
def test_without_outer_positions_the_order_of_patches_does_not_matter(positions: bool) -> None:
    model = shaken(tiny("tnt_ti", outer_position_embedding=positions)).double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    shuffled = moved(images, torch.randperm(16), 8)
    assert not torch.equal(images, shuffled)
    assert torch.allclose(model(images), model(shuffled), rtol=0, atol=1e-10) == (not positions)


# timm.


@pytest.mark.parametrize(
    ("image_size", "patch_size", "inner_stride"), [(64, 16, 4), (32, 8, 2), (24, 8, 3)]
)
def test_tnt_ti_computes_what_timm_computes(
    image_size: int, patch_size: int, inner_stride: int
) -> None:
    ours = MODELS["tnt_ti"](10, image_size, patch_size=patch_size, inner_stride=inner_stride)
    theirs = timm_like(ours, image_size, patch_size, inner_stride)
    assert_same_as_timm(ours, theirs, image_size)


@pytest.mark.parametrize(("image_size", "patch_size", "inner_stride"), [(64, 16, 4), (24, 8, 2)])
def test_the_legacy_layout_is_timms(image_size: int, patch_size: int, inner_stride: int) -> None:
    arguments = {"patch_size": patch_size, "inner_stride": inner_stride, "depth": 3}
    ours = MODELS["tnt_s_legacy"](10, image_size, **arguments)
    theirs = timm_like(ours, image_size, patch_size, inner_stride)
    assert_same_as_timm(ours, theirs, image_size)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tnt_ti", "tnt_s", "tnt_b", "tnt_s_legacy"])
@pytest.mark.parametrize("image_size", [224, 160])
def test_every_size_computes_what_timm_computes(name: str, image_size: int) -> None:
    ours = MODELS[name](image_size=image_size)
    assert_same_as_timm(ours, timm_like(ours, image_size, 16), image_size)


def test_a_saved_model_loads_into_timm_and_back(tmp_path: Path) -> None:
    assert_loads_into_timm_and_back("tnt_ti", timm_like(tiny("tnt_ti"), 32, 8), tmp_path)


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 5}, r"image_size \(32\) must be a multiple of patch_size \(5\)"),
        ({"num_heads": 5}, r"embed_dim \(32\) must be a multiple of num_heads \(5\)"),
        (
            {"layout": "legacy", "inner_stride": 3},
            r"patch_size \(8\) must be a multiple of inner_stride \(3\) in layout \(legacy\)",
        ),
        ({"inner_num_heads": 5}, r"inner_dim \(12\) must be a multiple of inner_num_heads \(5\)"),
    ],
)
def test_dimensions_that_do_not_fit_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("tnt_ti", **arguments)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size"):
        tiny("tnt_ti")(torch.randn(1, 3, 64, 64))
