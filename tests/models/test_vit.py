import copy
from pathlib import Path

import pytest
import timm.models.deit
import timm.models.vision_transformer
import torch
from torch import Tensor, nn

from tests.conftest import tiny
from tests.models.agreement import (
    assert_loads_into_timm_and_back,
    assert_same_as_timm,
    meta,
    parameter_count,
)
from vtrain.models.vit import DistilledLogits, ViT
from vtrain.registry import MODELS

TINY = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
"""The smallest arguments that still have every part of a model; 32-pixel images, 10 classes."""

timm_vit = timm.models.vision_transformer.VisionTransformer
timm_distilled = timm.models.deit.VisionTransformerDistilled

# Published sizes of 224-pixel models with 1000 classes.
COUNTS = [
    ("vit_ti", {"patch_size": 8}, 5_719_720),
    ("vit_ti", {"patch_size": 14}, 5_694_376),
    ("vit_ti", {}, 5_717_416),
    ("vit_ti", {"patch_size": 32}, 6_131_560),
    ("vit_s", {"patch_size": 8}, 22_055_272),
    ("vit_s", {}, 22_050_664),
    ("vit_s", {"patch_size": 32}, 22_878_952),
    ("vit_b", {"patch_size": 8}, 86_576_872),
    ("vit_b", {}, 86_567_656),
    ("vit_b", {"patch_size": 32}, 88_224_232),
    ("vit_l", {}, 304_326_632),
    ("vit_l", {"patch_size": 32}, 306_535_400),
    ("vit_h", {}, 632_045_800),
    ("vit_h", {"patch_size": 16}, 632_199_400),
    ("vit_ti", {"image_size": 384}, 5_790_376),
    ("vit_b", {"image_size": 384}, 86_859_496),
    ("vit_ti", {"pooling": "mean"}, 5_717_032),
    ("vit_b", {"pooling": "mean"}, 86_566_120),
    ("deit_ti", {}, 5_717_416),
    ("deit_s", {}, 22_050_664),
    ("deit_b", {}, 86_567_656),
    ("deit_ti_distilled", {}, 5_910_800),
    ("deit_s_distilled", {}, 22_436_432),
    ("deit_b_distilled", {}, 87_338_192),
    ("deit_b_distilled", {"image_size": 384}, 87_630_032),
    ("deit3_s", {}, 22_059_496),
    ("deit3_m", {}, 38_849_512),
    ("deit3_b", {}, 86_585_320),
    ("deit3_l", {}, 304_374_760),
    ("deit3_h", {}, 632_126_440),
    ("vit_ti", {"num_classes": 10, "image_size": 32, "patch_size": 4}, 5_362_762),
    ("vit_s", {"num_classes": 10, "image_size": 32, "patch_size": 4}, 21_342_346),
]


@pytest.mark.parametrize(("name", "arguments", "count"), COUNTS)
def test_parameter_count_is_the_published_one(name: str, arguments: dict, count: int) -> None:
    model = meta(name, **arguments)
    assert parameter_count(model) == count


@pytest.mark.parametrize("name", [n for n in MODELS.names() if n.startswith(("vit", "deit"))])
def test_parameter_count_is_the_closed_form(name: str) -> None:
    model = meta(name)
    p, d, L = model.patch_embed.patch_size, model.head.in_features, len(model.blocks)
    N, K = (model.image_size // p) ** 2, model.num_classes
    tokens = 2 if "distilled" in name else 1
    positions = N if "deit3" in name else N + tokens
    scales = 2 * d * L if "deit3" in name else 0
    patch, blocks, heads = 3 * p * p * d + d, L * (12 * d * d + 13 * d), tokens * (d * K + K)
    expected = patch + tokens * d + positions * d + blocks + scales + 2 * d + heads
    assert parameter_count(model) == expected


SMALL = {"embed_dim": 96, "depth": 3, "num_heads": 3, "patch_size": 16, "num_classes": 10}


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize(
    ("name", "arguments", "theirs", "their_arguments"),
    [
        ("vit_ti", {}, timm_vit, {}),
        (
            "vit_s",
            {"qkv_bias": False, "mlp_ratio": 2.0},
            timm_vit,
            {"qkv_bias": False, "mlp_ratio": 2},
        ),
        ("vit_s", {"position_embedding": "none"}, timm_vit, {"pos_embed": "none"}),
        ("vit_b", {"pooling": "mean"}, timm_vit, {"global_pool": "avg", "class_token": False}),
        ("vit_b", {"num_registers": 4}, timm_vit, {"reg_tokens": 4}),
        (
            "vit_b",
            {"num_registers": 4, "class_position": False},
            timm_vit,
            {"reg_tokens": 4, "no_embed_class": True},
        ),
        ("deit3_s", {"layer_scale": 0.1}, timm_vit, {"no_embed_class": True, "init_values": 0.1}),
        ("deit_s_distilled", {}, timm_distilled, {}),
    ],
)
def test_small_models_agree_with_timm(name, arguments, theirs, their_arguments, size) -> None:
    ours = MODELS[name](image_size=size, **{**SMALL, **arguments})
    reference = theirs(img_size=size, **{**SMALL, **their_arguments})
    assert_same_as_timm(ours.eval(), reference.eval(), size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 160])
@pytest.mark.parametrize(
    ("name", "their_name"),
    [
        ("vit_ti", "vit_tiny_patch16_224"),
        ("vit_s", "vit_small_patch16_224"),
        ("vit_b", "vit_base_patch16_224"),
        ("deit_ti", "deit_tiny_patch16_224"),
        ("deit_s", "deit_small_patch16_224"),
        ("deit_b", "deit_base_patch16_224"),
        ("deit_ti_distilled", "deit_tiny_distilled_patch16_224"),
        ("deit_s_distilled", "deit_small_distilled_patch16_224"),
        ("deit_b_distilled", "deit_base_distilled_patch16_224"),
        ("deit3_s", "deit3_small_patch16_224"),
        ("deit3_m", "deit3_medium_patch16_224"),
        ("deit3_b", "deit3_base_patch16_224"),
    ],
)
def test_published_sizes_agree_with_timm(name: str, their_name: str, size: int) -> None:
    ours, theirs = MODELS[name](image_size=size), timm.create_model(their_name, img_size=size)
    assert_same_as_timm(ours.eval(), theirs.eval(), size)


def test_a_saved_model_loads_into_timm_and_back(tmp_path: Path) -> None:
    theirs = timm_vit(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10)
    assert_loads_into_timm_and_back("vit_ti", theirs, tmp_path)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("vit_ti", {}), ("vit_ti", {"num_registers": 2}), ("deit_ti_distilled", {}), ("deit3_s", {})],
)
def test_computing_only_the_pooled_tokens_of_the_last_block_is_exact(name, arguments, training):
    model = tiny(name, drop_path_rate=0.5, **arguments).double().train(training)
    whole = copy.deepcopy(model)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.manual_seed(1)
    given = model(images)
    torch.manual_seed(1)  # the same samples drop the same branches
    expected = whole.forward_head(whole.forward_features(images))
    for ours, theirs in zip(as_tuple(given), as_tuple(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    sum(logits.square().sum() for logits in as_tuple(given)).backward()
    sum(logits.square().sum() for logits in as_tuple(expected)).backward()
    for (parameter, p), q in zip(model.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-12, msg=parameter)


def as_tuple(output: Tensor | DistilledLogits) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)


def test_a_distilled_model_gives_both_logits_in_training_and_their_mean_in_evaluation() -> None:
    model, images = tiny("deit_ti_distilled"), torch.randn(2, 3, 32, 32)
    classes, distillation = model.train()(images)
    assert not torch.equal(classes, distillation)
    torch.testing.assert_close(model.eval()(images), (classes + distillation) / 2)


def shuffled_patches(images: Tensor, patch: int) -> Tensor:
    """Put the patches of each image in another order."""
    patches = nn.functional.unfold(images, patch, stride=patch)
    order = torch.randperm(patches.shape[-1])
    return nn.functional.fold(patches[..., order], images.shape[2:], patch, stride=patch)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("position", ["learned_1d", "learned_2d", "sincos_2d", "none"])
def test_patches_are_a_set_exactly_when_there_are_no_positions(position, pooling) -> None:
    model = tiny("vit_ti", position_embedding=position, pooling=pooling).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    difference = (model(images) - model(shuffled_patches(images, 8))).abs().max()
    assert (difference < 1e-12) == (position == "none")


def test_2d_positions_are_a_row_part_beside_a_column_part() -> None:
    model = tiny("vit_ti", position_embedding="learned_2d")
    added = model.add_patch_positions(torch.zeros(1, 16, 32)).view(4, 4, 32)
    for row in range(4):
        for column in range(4):
            parts = model.pos_embed_x[0, column], model.pos_embed_y[0, row]
            assert torch.equal(added[row, column], torch.cat(parts))


def test_fixed_positions_are_neither_trained_nor_saved() -> None:
    model = tiny("vit_ti", position_embedding="sincos_2d")
    assert not [name for name in model.state_dict() if "pos_embed" in name]


def test_features_are_all_tokens_with_the_prefix_first() -> None:
    model = tiny("deit_ti_distilled", num_registers=3)
    assert model.forward_features(torch.randn(2, 3, 32, 32)).shape == (2, 2 + 3 + 16, 32)


def test_published_shapes_of_vit_ti() -> None:
    model, images = meta("vit_ti"), torch.empty(2, 3, 224, 224, device="meta")
    assert model.patch_embed(images).flatten(1, 2).shape == (2, 196, 192)
    assert model.forward_features(images).shape == (2, 197, 192)
    assert model(images).shape == (2, 1000)


@pytest.mark.parametrize(("name", "rates"), [("deit_s", [0.0, 0.1, 0.2]), ("deit3_s", [0.2] * 3)])
def test_drop_path_grows_with_depth_but_is_constant_in_deit3(name: str, rates: list) -> None:
    model = tiny(name, depth=3, drop_path_rate=0.2)
    assert [block.drop_path.rate for block in model.blocks] == pytest.approx(rates)


def test_initial_weights_follow_the_reference() -> None:
    model = MODELS["deit_s_distilled"](layer_scale=1e-4, num_registers=2)
    for name in ("blocks.3.attn.qkv.weight", "head.weight", "pos_embed", "dist_token"):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.1), name
    assert model.cls_token.abs().max() < 1e-5
    assert model.reg_token.abs().max() < 1e-5
    assert (model.blocks[0].ls1.gamma == 1e-4).all()
    assert not model.head.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 7}, r"image_size \(32\) must be a multiple of patch_size \(7\)"),
        ({"num_heads": 5}, r"embed_dim \(32\) must be a multiple of num_heads \(5\)"),
        (
            {"distillation_token": True, "pooling": "mean"},
            r"distillation_token \(true\).*pooling \(mean\)",
        ),
        (
            {"embed_dim": 30, "position_embedding": "sincos_2d"},
            r"embed_dim \(30\).*position_embedding \(sincos_2d\)",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("vit_ti", **arguments)


def test_images_of_another_size_are_refused() -> None:
    model = ViT(10, 32, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"\(2, 3, 40, 40\).*\(B, 3, 32, 32\)"):
        model(torch.randn(2, 3, 40, 40))
