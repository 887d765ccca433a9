"""SwinV2 against its paper's formulas, loops over positions, torchvision and timm."""

import math
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
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
from vtrain.layers.windows import Windows, relative_position_index
from vtrain.models.swin_v2 import WindowAttention, log_spaced_offsets
from vtrain.registry import MODELS

TINY = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
"""The smallest arguments that still have every part of a model; 32-pixel images, 10 classes."""
FLIPS = {
    "num_heads": (4, 4),  # one for each stage
    "depths": (2, 1),
    "window_size": 2,
    "window_shift": False,
    "pretrained_window_sizes": (4, 4),
}
"""Another value of each key that this family alone has."""

# Sizes.


@pytest.mark.parametrize(
    ("name", "window_size", "parameters"),
    [
        ("swinv2_t", 8, 28_347_154),
        ("swinv2_t", 16, 28_347_154),
        ("swinv2_s", 8, 49_728_418),
        ("swinv2_b", 8, 87_918_816),
        ("swinv2_b", 16, 87_918_816),
    ],
)
def test_parameter_counts_are_the_published_ones(
    name: str, window_size: int, parameters: int
) -> None:
    model = meta(name, window_size=window_size)
    assert model.image_size == 256
    assert parameter_count(model) == parameters


def test_features_are_the_maps_of_the_stages() -> None:
    maps = meta("swinv2_t").forward_features(torch.empty(2, 3, 256, 256, device="meta"))
    assert [tuple(m.shape[1:]) for m in maps] == [(96 * 2**i, 64 >> i, 64 >> i) for i in range(4)]


# Offsets and attention.


@pytest.mark.parametrize(("side", "trained_side"), [(3, 3), (4, 2), (1, 1)])
def test_offsets_have_the_coordinates_of_the_paper(side: int, trained_side: int) -> None:
    def coordinate(steps: int) -> float:
        t = 8 * steps / max(trained_side - 1, 1)
        return math.copysign(math.log(1 + abs(t)), t) / math.log(8)

    offsets, index = log_spaced_offsets(side, trained_side), relative_position_index(side)
    for q in range(side**2):
        for k in range(side**2):
            expected = [coordinate(q // side - k // side), coordinate(q % side - k % side)]
            assert offsets[index[q, k]].tolist() == pytest.approx(expected)


def loop_attention(attn: WindowAttention, x: Tensor, side: int, shift: int) -> Tensor:
    """Cosine attention without windows or a roll: for each token, the keys that it may see.

    Two tokens see each other if no border lies between them; the borders are at `shift` plus
    multiples of `side`. Zeros fill the map up to the next multiple of `side`.
    """
    H, W, C = x.shape
    heads, d, w = attn.num_heads, C // attn.num_heads, attn.bias_of_offsets.side
    rows, columns = -(-H // side) * side, -(-W // side) * side
    padded = torch.zeros(rows, columns, C, dtype=x.dtype)
    padded[:H, :W] = x
    q, k, v = (padded @ attn.qkv.weight.T).reshape(rows, columns, 3, heads, d).unbind(2)
    q, v = q + attn.q_bias.view(heads, d), v + attn.v_bias.view(heads, d)
    bias = 16 * attn.cpb_mlp(attn.offsets).sigmoid()
    out = torch.zeros(H, W, heads, d, dtype=x.dtype)
    for y, column, h in torch.cartesian_prod(*map(torch.arange, (H, W, heads))).tolist():
        scores, values = [], []
        for i, j in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist():
            same_row = (i - shift) // side == (y - shift) // side
            if same_row and (j - shift) // side == (column - shift) // side:
                a, b = q[y, column, h], k[i, j, h]
                temperature = max(1 / attn.logit_scale[h].exp().item(), 0.01)
                offset = (y - i + w - 1) * (2 * w - 1) + column - j + w - 1
                cosine = a @ b / (a.norm() * b.norm()).clamp(min=1e-24)  # padded keys are zero
                scores.append(cosine / temperature + bias[offset, h])
                values.append(v[i, j, h])
        out[y, column, h] = torch.stack(scores).softmax(0) @ torch.stack(values)
    result: Tensor = attn.proj(out.flatten(2))
    return result


@pytest.mark.parametrize(
    ("height", "width", "side", "shift"), [(8, 4, 4, 2), (5, 6, 4, 2), (6, 5, 3, 1), (3, 5, 3, 0)]
)
def test_attention_equals_a_loop_over_positions(
    height: int, width: int, side: int, shift: int
) -> None:
    attn = shaken(WindowAttention(6, 2, 4, 4).double())  # windows of 3 use the inner offsets
    x = torch.randn(1, height, width, 6, dtype=torch.float64)
    given = attn(x, Windows(height, width, side, shift))[0]
    torch.testing.assert_close(given, loop_attention(attn, x[0], side, shift), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("height", "width", "shift"), [(10, 9, 0), (10, 9, 2), (8, 12, 2)])
def test_padding_and_shift_are_torchvisions(height: int, width: int, shift: int) -> None:
    attn = shaken(WindowAttention(6, 2, 4, 4))
    x = torch.randn(2, height, width, 6)
    table = 16 * attn.cpb_mlp(attn.offsets).sigmoid()
    expected = shifted_window_attention(
        x,
        attn.qkv.weight,
        attn.proj.weight,
        attn.bias_of_offsets(table, 4)[None],
        window_size=[4, 4],
        num_heads=2,
        shift_size=[shift, shift],
        qkv_bias=torch.cat([attn.q_bias, torch.zeros(6), attn.v_bias]),
        proj_bias=attn.proj.bias,
        logit_scale=attn.logit_scale,
    )
    torch.testing.assert_close(attn(x, Windows(height, width, 4, shift)), expected)


def test_the_temperature_is_at_least_a_hundredth() -> None:
    attn, x = shaken(WindowAttention(6, 2, 4, 4)), torch.randn(1, 4, 4, 6)
    outputs = []
    for scale in (math.log(100), math.log(1000)):
        nn.init.constant_(attn.logit_scale, scale)
        outputs.append(attn(x, Windows(4, 4, 4)))
    assert torch.equal(*outputs)


# Blocks.


def test_a_new_block_passes_its_input_through() -> None:
    block, x = tiny("swinv2_t").layers[0].blocks[1].train(), torch.randn(2, 16, 16, 16)
    assert torch.equal(block(x, Windows(16, 16, 8, 4)), x)


def test_blocks_normalise_what_they_add() -> None:
    block = tiny("swinv2_t", drop_path_rate=0.0).layers[0].blocks[0]
    for norm in (block.norm1, block.norm2):
        nn.init.ones_(norm.weight)
    x, windows = torch.randn(2, 16, 16, 16), Windows(16, 16, 8)
    middle = x + block.norm1(block.attn(x, windows))
    torch.testing.assert_close(block(x, windows), middle + block.norm2(block.mlp(middle)))
    added = block(x, windows) - x
    torch.testing.assert_close(added.mean(-1), torch.zeros(2, 16, 16), rtol=0, atol=1e-5)


def test_merging_normalises_after_the_reduction() -> None:
    merging = tiny("swinv2_t").layers[1].downsample
    merged = merging(torch.randn(2, 6, 6, 16))
    assert merged.shape == (2, 3, 3, 32)
    torch.testing.assert_close(merged.mean(-1), torch.zeros(2, 3, 3), rtol=0, atol=1e-5)


# Options.


@pytest.mark.parametrize(
    ("option", "values"),
    [("window_shift", (False, True)), ("pretrained_window_sizes", ((4, 4), (4, 2)))],
)
def test_each_option_changes_the_output(option: str, values: tuple[object, object]) -> None:
    images, outputs = torch.randn(2, 3, 32, 32), []
    state = shaken(tiny("swinv2_t", window_size=4)).state_dict()
    for value in values:
        model = tiny("swinv2_t", window_size=4, **{option: value}).eval()
        model.load_state_dict(state, strict=True)
        outputs.append(model(images))
    assert not torch.allclose(*outputs, atol=1e-5)


def test_the_networks_of_bias_and_temperature_are_not_decayed() -> None:
    model = tiny("swinv2_t")
    parts = ("cpb_mlp.0.weight", "cpb_mlp.0.bias", "cpb_mlp.2.weight", "logit_scale")
    blocks = [f"layers.{i}.blocks.{j}.attn." for i in range(2) for j in range(2)]
    assert model.no_weight_decay == {block + part for block in blocks for part in parts}


# timm.


@pytest.mark.parametrize(("image_size", "window_size"), [(128, 8), (64, 4)])
def test_swinv2_t_computes_what_timm_computes(image_size: int, window_size: int) -> None:
    arguments = {"window_size": window_size, "drop_path_rate": 0.0, "embed_dim": 24}
    ours = MODELS["swinv2_t"](num_classes=10, image_size=image_size, **arguments)
    theirs = timm.create_model(
        "swinv2_tiny_window8_256", num_classes=10, img_size=image_size, **arguments
    )
    assert_same_as_timm(ours, theirs, image_size)


def test_windows_of_an_earlier_training_are_timms() -> None:
    arguments = {"drop_path_rate": 0.0, "pretrained_window_sizes": (6, 3)}
    ours = tiny("swinv2_t", window_size=8, **arguments)
    assert_same_as_timm(ours, timm_swin("swinv2_tiny_window8_256", window_size=8, **arguments), 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("swinv2_t", "swinv2_tiny_window8_256"),
        ("swinv2_t", "swinv2_tiny_window16_256"),
        ("swinv2_s", "swinv2_small_window8_256"),
        ("swinv2_b", "swinv2_base_window8_256"),
        ("swinv2_b", "swinv2_base_window16_256"),
    ],
)
@pytest.mark.parametrize("image_size", [256, 128])
def test_every_size_computes_what_timm_computes(name: str, reference: str, image_size: int) -> None:
    window_size = 16 if "window16" in reference else 8
    ours = MODELS[name](image_size=image_size, window_size=window_size, drop_path_rate=0.0)
    theirs = timm.create_model(reference, img_size=image_size, drop_path_rate=0.0)
    assert_same_as_timm(ours, theirs, image_size)


def test_a_saved_model_loads_into_timm_and_back(tmp_path: Path) -> None:
    assert_loads_into_timm_and_back("swinv2_t", timm_swin("swinv2_tiny_window8_256"), tmp_path)


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 5}, r"image_size \(32\) must be a multiple of patch_size \(5\)"),
        ({"depths": (2, 2, 2)}, r"depths \[2, 2, 2\] and num_heads \[2, 4\]"),
        ({"num_heads": (2, 5)}, r"num_heads \(5\) of stage 1 must divide its channels \(32\)"),
        ({"pretrained_window_sizes": (8,)}, r"pretrained_window_sizes \[8\] and depths \[2, 2\]"),
    ],
)
def test_dimensions_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("swinv2_t", **arguments)


def test_images_that_cannot_be_cut_into_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of patch_size \(2\)"):
        tiny("swinv2_t")(torch.randn(1, 3, 32, 33))
