"""Swin against its papers' numbers, a reference that loops over positions, and timm."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models.swin_transformer import shifted_window_attention

from tests.conftest import tiny
from tests.models.agreement import (
    assert_loads_into_timm_and_back,
    assert_same_as_timm,
    meta,
    parameter_count,
    shaken,
    timm_swin,
)
from vtrain.layers.windows import Windows
from vtrain.models.shifted_windows import two_by_two
from vtrain.models.swin import PatchMerging, Swin, WindowAttention
from vtrain.registry import MODELS

TINY = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
"""The smallest arguments that still have every part of a model; 32-pixel images, 10 classes."""
FLIPS = {
    "num_heads": (4, 4),  # one for each stage
    "depths": (2, 1),
    "window_size": 2,
    "window_shift": False,
    "relative_position_bias": False,
    "absolute_position_embedding": True,
}
"""Another value of each key that this family alone has."""

# Stages small enough for loops, and parts of every kind: both window sizes, shift, merging.
SMALL = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "patch_size": 1}


# Sizes.


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("swin_t", {}, 28_288_354),
        ("swin_s", {}, 49_606_258),
        ("swin_b", {}, 87_768_224),
        ("swin_l", {}, 196_532_476),
        ("swin_b", {"window_size": 12, "image_size": 384}, 87_903_584),
        ("swin_l", {"window_size": 12, "image_size": 384}, 196_735_516),
        ("swin_t", {"patch_size": 1, "window_size": 4, "image_size": 32}, 27_506_164),
        ("swin_t", {"patch_size": 2, "window_size": 4, "image_size": 32}, 27_505_108),
        ("swin_t", {"patch_size": 2, "window_size": 8, "image_size": 32}, 27_508_276),
        ("swin_t", {"patch_size": 4, "window_size": 4, "image_size": 32}, 27_505_300),
        ("swin_t", {"patch_size": 4, "window_size": 7, "image_size": 32}, 27_506_020),
    ],
)
def test_parameter_counts_are_the_published_ones(
    name: str, arguments: dict[str, int], parameters: int
) -> None:
    num_classes = 10 if arguments.get("image_size") == 32 else 1000
    model = meta(name, num_classes=num_classes, **arguments)
    assert parameter_count(model) == parameters


def test_parameter_count_is_the_closed_form() -> None:
    C, depths, heads, w, p, K = 24, (2, 3, 1), (2, 3, 4), 5, 2, 7
    count = 3 * p * p * C + C + 2 * C
    for i, (depth, h) in enumerate(zip(depths, heads, strict=True)):
        c, side = C * 2**i, min(w, 16 // 2**i)
        count += depth * (12 * c * c + 13 * c + (2 * side - 1) ** 2 * h)
        count += 8 * c * c + 8 * c if i < 2 else 2 * c + c * K + K
    model = meta(
        "swin_t",
        num_classes=K,
        image_size=32,
        patch_size=p,
        embed_dim=C,
        depths=depths,
        num_heads=heads,
        window_size=w,
    )
    assert parameter_count(model) == count


@pytest.mark.parametrize(
    ("arguments", "shapes"),
    [
        ({}, [(96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7)]),
        (
            {"image_size": 32, "patch_size": 2, "window_size": 4},
            [(96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2)],
        ),
    ],
)
def test_features_are_the_maps_of_the_stages(
    arguments: dict[str, int], shapes: list[tuple[int, ...]]
) -> None:
    model = meta("swin_t", **arguments)
    images = torch.empty(2, 3, model.image_size, model.image_size, device="meta")
    assert [tuple(m.shape) for m in model.forward_features(images)] == [(2, *s) for s in shapes]


def test_small_maps_have_the_tables_of_their_windows() -> None:
    model = meta("swin_t", image_size=32, patch_size=2, window_size=4)
    tables = [stage.blocks[1].attn.relative_position_bias_table.shape for stage in model.layers]
    assert tables == [(49, 3), (49, 6), (49, 12), (9, 24)]
    shifts = [
        stage.windows.sizes[f"{n}x{n}"][1].shift
        for stage, n in zip(model.layers, (16, 8, 4, 2), strict=True)
    ]
    assert shifts == [2, 2, 0, 0]


def test_drop_path_grows_linearly_over_all_stages() -> None:
    model = meta("swin_t", drop_path_rate=0.2)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


# Attention in windows, against loops over positions.


def loop_attention(attn: WindowAttention, x: Tensor, side: int, shift: int) -> Tensor:
    """Windowed attention without windows or a roll: for each token, the keys that it may see.

    Two tokens see each other if no border lies between them; the borders are at `shift` plus
    multiples of `side`. Zeros fill the map up to the next multiple of `side`.
    """
    H, W, C = x.shape
    heads, w = attn.num_heads, attn.bias_of_offsets.side
    rows, columns = -(-H // side) * side, -(-W // side) * side
    padded = torch.zeros(rows, columns, C, dtype=x.dtype)
    padded[:H, :W] = x
    q, k, v = attn.qkv(padded).reshape(rows, columns, 3, heads, C // heads).unbind(2)
    out = torch.zeros(H, W, heads, C // heads, dtype=x.dtype)
    for y in range(H):
        for x_ in range(W):
            seen = [
                (i, j)
                for i in range(rows)
                for j in range(columns)
                if (i - shift) // side == (y - shift) // side
                and (j - shift) // side == (x_ - shift) // side
            ]
            for h in range(heads):
                scores = []
                for i, j in seen:
                    score = q[y, x_, h] @ k[i, j, h] / (C // heads) ** 0.5
                    if attn.relative_position_bias_table is not None:
                        offset = (y - i + w - 1) * (2 * w - 1) + x_ - j + w - 1
                        score = score + attn.relative_position_bias_table[offset, h]
                    scores.append(score)
                weights = torch.stack(scores).softmax(0)
                out[y, x_, h] = sum(a * v[i, j, h] for a, (i, j) in zip(weights, seen, strict=True))
    result: Tensor = attn.proj(out.flatten(2))
    return result


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("height", "width", "side", "shift"),
    [(8, 4, 4, 2), (6, 7, 4, 2), (5, 6, 4, 0), (6, 9, 3, 1), (3, 5, 3, 0), (2, 2, 2, 0)],
)
def test_attention_equals_a_loop_over_positions(
    height: int, width: int, side: int, shift: int, biased: bool
) -> None:
    attn = shaken(WindowAttention(6, 2, 4, biased).double())  # windows of 3 and 2 use its corner
    x = torch.randn(2, height, width, 6, dtype=torch.float64)
    given = attn(x, Windows(height, width, side, shift))
    expected = torch.stack([loop_attention(attn, image, side, shift) for image in x])
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width", "shift"), [(10, 9, 0), (10, 9, 2), (8, 12, 2)])
def test_padding_and_shift_are_torchvisions(height: int, width: int, shift: int) -> None:
    # torchvision follows the official detection code: it pads, then rolls. timm rolls, then pads,
    # which lets tokens see other zeros; the two agree where there is nothing to pad.
    attn = shaken(WindowAttention(6, 2, 4, relative_position_bias=True))
    x = torch.randn(2, height, width, 6)
    expected = shifted_window_attention(
        x,
        attn.qkv.weight,
        attn.proj.weight,
        attn.bias_of_offsets(attn.relative_position_bias_table, 4)[None],
        window_size=[4, 4],
        num_heads=2,
        shift_size=[shift, shift],
        qkv_bias=attn.qkv.bias,
        proj_bias=attn.proj.bias,
    )
    torch.testing.assert_close(attn(x, Windows(height, width, 4, shift)), expected)


def test_merging_puts_four_tokens_side_by_side_and_pads_odd_maps() -> None:
    x = torch.randn(2, 5, 3, 4)
    merged = two_by_two(x)
    assert merged.shape == (2, 3, 2, 16)
    # The official order: down the first column, then down the second.
    assert torch.equal(
        merged[:, 1, 0], torch.cat([x[:, 2, 0], x[:, 3, 0], x[:, 2, 1], x[:, 3, 1]], 1)
    )
    zero = torch.zeros(2, 4)
    assert torch.equal(merged[:, 2, 1], torch.cat([x[:, 4, 2], zero, zero, zero], 1))
    assert PatchMerging(4)(x).shape == (2, 3, 2, 8)


# What a pixel can reach.


def changed(model: Swin, first: Tensor, second: Tensor) -> set[tuple[int, int]]:
    """Return the windows of 4 tokens per side in which the first stage's maps differ."""
    difference = model.forward_features(first)[0] - model.forward_features(second)[0]
    ys, xs = difference.abs().sum((0, 1)).nonzero(as_tuple=True)
    return {(y // 4, x // 4) for y, x in zip(ys.tolist(), xs.tolist(), strict=True)}


# The pixel's own window is (1, 1). It fills rows and columns 4 to 7, which two shifted windows per
# axis share, from 2 to 5 and from 6 to 9: with a shift the pixel reaches rows and columns 2 to 9.
@pytest.mark.parametrize(
    ("window_shift", "reached"),
    [(False, {(1, 1)}), (True, {(y, x) for y in range(3) for x in range(3)})],
)
def test_only_a_shift_carries_a_pixel_across_windows(
    window_shift: bool, reached: set[tuple[int, int]]
) -> None:
    model = MODELS["swin_t"](
        10, 16, **SMALL, window_size=4, window_shift=window_shift, drop_path_rate=0.0
    )
    first = torch.randn(1, 3, 16, 16)
    second = first.clone()
    second[0, :, 4, 4] += 1
    assert changed(model, first, second) == reached


# Options.


@pytest.mark.parametrize(
    "option", ["relative_position_bias", "absolute_position_embedding", "window_shift"]
)
def test_each_option_changes_the_output(option: str) -> None:
    images, outputs = torch.randn(2, 3, 32, 32), []
    state = shaken(tiny("swin_t", window_size=4)).state_dict()
    for value in (False, True):
        model = tiny("swin_t", window_size=4, **{option: value}).eval()
        model.load_state_dict(state, strict=False)
        outputs.append(model(images))
    assert not torch.allclose(*outputs, atol=1e-5)


def test_absolute_positions_are_added_to_the_patches() -> None:
    model = tiny("swin_t", absolute_position_embedding=True)
    images = torch.randn(2, 3, 32, 32)
    patches = model.patch_embed(images).flatten(1, 2)
    torch.testing.assert_close(
        model.embed(images).flatten(1, 2), patches + model.absolute_pos_embed
    )


def test_the_bias_table_is_left_out_when_off() -> None:
    names = tiny("swin_t", relative_position_bias=False).state_dict()
    assert not [name for name in names if "relative_position" in name]


# Other sizes of images.


@pytest.mark.parametrize(("height", "width"), [(32, 48), (20, 36), (6, 6), (2, 10), (64, 64)])
def test_images_of_another_size_give_maps_of_another_size(height: int, width: int) -> None:
    model = tiny("swin_t", window_size=4)
    first, second = model.forward_features(torch.randn(1, 3, height, width))
    h, w = height // 2, width // 2
    assert first.shape == (1, 16, h, w)
    assert second.shape == (1, 32, -(-h // 2), -(-w // 2))


def test_a_model_for_another_size_of_image_is_the_same_model() -> None:
    # Both have windows of 4 in every stage, so that only the size of the map differs.
    small, large = tiny("swin_t", window_size=4), tiny("swin_t", window_size=4, image_size=64)
    large.load_state_dict(small.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(small.eval()(images), large.eval()(images))


# timm.

TIMM = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_l": "swin_large_patch4_window7_224",
}


@pytest.mark.parametrize(("image_size", "patch_size", "window_size"), [(112, 4, 7), (32, 2, 4)])
def test_swin_t_computes_what_timm_computes(
    image_size: int, patch_size: int, window_size: int
) -> None:
    arguments = {"patch_size": patch_size, "window_size": window_size, "drop_path_rate": 0.0}
    ours = MODELS["swin_t"](10, image_size, **arguments)
    theirs = timm.create_model(TIMM["swin_t"], num_classes=10, img_size=image_size, **arguments)
    assert_same_as_timm(ours, theirs, image_size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_size", "window_size"),
    [
        *((name, size, 7) for name in TIMM for size in (224, 112)),
        ("swin_b", 384, 12),
    ],
)
def test_every_size_computes_what_timm_computes(
    name: str, image_size: int, window_size: int
) -> None:
    arguments = {"window_size": window_size, "drop_path_rate": 0.0}
    ours = MODELS[name](image_size=image_size, **arguments)
    theirs = timm.create_model(TIMM[name], img_size=image_size, **arguments)
    assert_same_as_timm(ours, theirs, image_size)


def test_a_saved_model_loads_into_timm_and_back(tmp_path: Path) -> None:
    assert_loads_into_timm_and_back("swin_t", timm_swin(TIMM["swin_t"]), tmp_path)


# Compilation.


@pytest.mark.slow
def test_the_model_compiles_as_one_graph() -> None:
    model = shaken(tiny("swin_t", drop_path_rate=0.0))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    for size in (32, 24):  # the second one is not the size that the windows were made for
        images = torch.randn(2, 3, size, size)
        torch.testing.assert_close(compiled(images), model(images))


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 5}, r"image_size \(32\) must be a multiple of patch_size \(5\)"),
        ({"depths": (2, 2, 2)}, r"depths \[2, 2, 2\] and num_heads \[2, 4\]"),
        ({"num_heads": (2, 5)}, r"num_heads \(5\) of stage 1 must divide its channels \(32\)"),
    ],
)
def test_dimensions_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("swin_t", **arguments)


def test_images_that_cannot_be_cut_into_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of patch_size \(2\)"):
        tiny("swin_t")(torch.randn(1, 3, 32, 33))


def test_absolute_positions_refuse_another_size_of_image() -> None:
    with pytest.raises(ValueError, match="image_size"):
        tiny("swin_t", absolute_position_embedding=True)(torch.randn(1, 3, 64, 64))
