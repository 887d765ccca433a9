from typing import Literal

import pytest
import torch

from tests.conftest import tiny
from tests.models.agreement import meta
from vtrain.models.profile import activation_bytes, count_macs, count_parameters, profile
from vtrain.models.vit import ViT
from vtrain.registry import MODELS

CIFAR = {"num_classes": 10, "image_size": 32}


# GMACs of reference implementations, rounded as they are published.
@pytest.mark.parametrize(
    ("name", "arguments", "gmacs"),
    [
        ("vit_ti", {"patch_size": 8}, "7.0358"),
        ("vit_ti", {}, "1.2537"),
        ("vit_ti", {"patch_size": 32}, "0.3060"),
        ("vit_s", {"patch_size": 14}, "6.1239"),
        ("vit_s", {}, "4.5989"),
        ("vit_b", {}, "17.5638"),
        ("vit_l", {}, "61.5547"),
        ("vit_h", {}, "167.2951"),
        ("vit_s", {"image_size": 384}, "15.490"),
        ("vit_s", {"pooling": "mean"}, "4.574"),
        ("deit_ti_distilled", {}, "1.261"),
        ("deit_b_distilled", {}, "17.6568"),
        ("deit3_m", {}, "7.991"),
        ("tnt_ti", {}, "1.4037"),
        ("tnt_s", {}, "5.2169"),
        ("tnt_b", {}, "14.0491"),
        ("tnt_ti", {"patch_size": 4, "inner_stride": 1, **CIFAR}, "0.4229"),
        ("swin_t", {}, "4.4906"),
        ("swin_s", {}, "8.7409"),
        ("swin_b", {}, "15.4309"),
        ("swin_b", {"image_size": 384, "window_size": 12}, "47.0831"),
        ("swinv2_t", {}, "5.94"),
        ("swinv2_t", {"window_size": 16}, "6.66"),
        ("swinv2_b", {}, "20.33"),
        ("swin_t", {"patch_size": 2, "window_size": 4, **CIFAR}, "0.3578"),
        ("swin_t", {"patch_size": 4, "window_size": 7, **CIFAR}, "0.1025"),
        ("vit_ti", {"patch_size": 2, **CIFAR}, "1.669"),
        ("vit_ti", {"patch_size": 4, **CIFAR}, "0.3651"),
        ("vit_ti", {"patch_size": 8, **CIFAR}, "0.0922"),
    ],
)
def test_macs_are_the_published_ones(name: str, arguments: dict, gmacs: str) -> None:
    digits = len(gmacs.partition(".")[2])
    assert f"{count_macs(meta(name, **arguments)) / 1e9:.{digits}f}" == gmacs


def test_macs_match_the_formula_of_a_transformer() -> None:
    model = ViT(10, 32, patch_size=8, embed_dim=32, depth=3, num_heads=2, pooling="mean")
    N, D, K = 16, 32, 10
    patch, block, head = N * 3 * 8 * 8 * D, 12 * N * D * D + 2 * N * N * D, D * K
    assert count_macs(model) == patch + 3 * block + head


def test_stages_are_the_shapes_that_flow_through_the_model() -> None:
    stages = profile(meta("vit_ti"), batch_size=2).stages
    assert [(stage.name, stage.shapes) for stage in stages] == [
        ("patch_embed", ((2, 14, 14, 192),)),
        ("blocks.0-11", ((2, 197, 192),)),
        ("norm", ((2, 197, 192),)),
        ("head", ((2, 1000),)),
    ]


def test_stages_of_swin_are_those_of_its_paper() -> None:
    """Table 7 and section 3.2: heads, windows of 7, shifted by 3 where a map has several."""
    found = profile(meta("swin_t"))
    stages = [stage for stage in found.stages if stage.attention]
    assert [stage.name for stage in stages] == [f"layers.{i}" for i in range(4)]
    for i, (stage, heads, side) in enumerate(
        zip(stages, (3, 6, 12, 24), (56, 28, 14, 7), strict=True)
    ):
        assert [a.shift for a in stage.attention] == ([0, 3] if i < 3 else [0])
        assert {(a.heads, a.rows, a.columns, a.side) for a in stage.attention} == {
            (heads, side, side, 7)
        }
    assert sum(stage.parameters for stage in found.stages) == 28_288_354  # torchvision's


def test_stages_of_tnt_have_words_and_patches() -> None:
    found = profile(meta("tnt_s"))
    (blocks,) = [stage for stage in found.stages if stage.attention]
    words, patches = blocks.attention
    assert (words.heads, words.side, words.level) == (4, 4, "words")
    assert (patches.heads, patches.rows, patches.side) == (6, 14, None)


def test_a_frozen_parameter_has_no_gradient_and_no_optimizer_state() -> None:
    model = tiny("vit_ti")
    model.patch_embed.requires_grad_(False)
    given, frozen = profile(model, optimizer_states=1, ema=True), 3 * 8 * 8 * 32 + 32
    P = count_parameters(model)
    assert (given.parameters, given.trainable) == (P, P - frozen)
    memory = given.memory
    assert (memory.parameters, memory.ema) == (4 * P, 4 * P)
    assert memory.gradients == memory.optimizer == 4 * (P - frozen)


def test_activations_of_a_linear_layer_and_a_gelu_are_their_inputs() -> None:
    """One block without attention's share: known by hand from what each backward needs."""
    small, wide = (tiny("vit_ti", mlp_ratio=ratio, pooling="mean") for ratio in (1.0, 3.0))
    B, N, D, depth = 4, 16, 32, 2
    extra = [profile(model, batch_size=B).memory.activations for model in (small, wide)]
    # A hidden number is kept twice: before GELU, and after it as the input of the second layer.
    assert extra[1] - extra[0] == 4 * depth * B * N * (3 - 1) * D * 2


def test_activations_grow_with_the_batch_in_proportion() -> None:
    model = tiny("vit_ti")
    one, two, three = (profile(model, batch_size=B).memory.activations for B in (1, 2, 3))
    assert three - two == two - one > 0


def test_16_bits_need_less_memory_and_checkpointing_less_still() -> None:
    model = tiny("vit_ti", depth=6)

    def activations(precision: str) -> int:
        given = profile(model, batch_size=16, precision=precision, device="cuda")
        return given.memory.activations

    full, half = activations("fp32"), activations("bf16")
    model.activation_checkpointing = True
    assert activations("bf16") < half < full


def test_the_model_is_left_as_it_is() -> None:
    model = tiny("vit_ti").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    profile(model, batch_size=2)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_image_size_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size"):
        profile(tiny("vit_ti"), image_size=48)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_can_be_profiled(name: str) -> None:
    given = profile(tiny(name), batch_size=2, precision="bf16")
    assert given.macs > 0
    assert given.memory.activations > 0
    assert given.stages[-1].shapes == ((2, 10),)


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cpu"), ("bf16", "cuda")])
@pytest.mark.parametrize("name", ["vit_ti", "deit_ti_distilled", "tnt_ti", "swin_t", "swinv2_t"])
def test_the_activations_of_a_large_batch_are_those_of_a_run_of_it(
    name: str, precision: Literal["fp32", "bf16"], device: str
) -> None:
    model, size = tiny(name), 11
    given = profile(model, batch_size=size, precision=precision, device=device)
    assert given.memory.activations == activation_bytes(model, None, size, precision, device)
