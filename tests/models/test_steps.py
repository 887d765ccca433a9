"""The steps of a model are those that it takes: counted in another way, and run for real."""

import pytest
import torch

import vtrain
from vtrain.models.base import ImageClassifier
from vtrain.models.profile import count_macs
from vtrain.models.steps import Step, steps, without_repeats
from vtrain.registry import MODELS


def small(name: str) -> ImageClassifier:
    sizes = {
        "vit_ti": {"depth": 2, "patch_size": 8},
        "tnt_ti": {"depth": 2, "patch_size": 8},
        "swin_t": {"depths": (2, 2), "num_heads": (3, 6), "patch_size": 2, "window_size": 4},
    }
    return vtrain.create_model(name, num_classes=5, image_size=32, **sizes[name])


def by_name(found: list[Step]) -> dict[str, Step]:
    return {step.name: step for step in found}


@pytest.mark.parametrize("name", ["vit_ti", "tnt_ti", "swin_t"])
def test_shapes_are_those_of_a_pass_with_numbers(name: str) -> None:
    model = small(name).eval()
    real: dict[str, tuple[int, ...]] = {}
    for part, module in model.named_modules():
        module.register_forward_hook(
            lambda _m, _i, out, part=part: real.__setitem__(
                part, tuple(out.shape) if isinstance(out, torch.Tensor) else ()
            )
        )
    found = by_name(steps(model))
    with torch.no_grad():
        model.forward_head(model.forward_features(torch.zeros(1, 3, 32, 32)))
    compared = {part for part in found if real.get(part)}
    assert len(compared) > 10
    assert all(found[part].shapes == (real[part],) for part in compared)


@pytest.mark.parametrize("name", ["deit_ti_distilled", "tnt_ti", "swin_t", "swinv2_t"])
def test_the_top_parts_of_a_model_cost_what_the_model_costs(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name]()
    found = steps(model)
    # What is not within another step: the whole cost but for what is no module at all.
    shown = {step.name for step in found}
    top = [
        s
        for s in found
        if not any(
            s.name.startswith(f"{o}.") or s.name == f"{o} weights" for o in shown if o != s.name
        )
    ]
    whole = count_macs(model)
    without_embedding = whole - sum(step.macs for step in top)
    assert 0 <= without_embedding < whole / 50


def test_attention_weights_cost_two_products() -> None:
    found = by_name(steps(small("vit_ti")))
    tokens, width = 1 + 16, 192
    assert found["blocks.0.attn weights"].shapes == ((1, 3, tokens, tokens),)
    assert found["blocks.0.attn weights"].macs == 2 * tokens**2 * width
    inside = ("blocks.0.attn.qkv", "blocks.0.attn weights", "blocks.0.attn.proj")
    assert found["blocks.0.attn"].macs == sum(found[part].macs for part in inside)
    assert found["blocks.0.attn.qkv"].macs == tokens * width * 3 * width


def test_the_weights_say_who_meets() -> None:
    swin = by_name(steps(small("swin_t")))
    plain, shifted = (swin[f"layers.0.blocks.{i}.attn weights"] for i in (0, 1))
    assert plain.note == "4 x 4 windows on 16 x 16"
    assert shifted.note == "4 x 4 windows on 16 x 16, rolled by 2, mask (16, 16, 16)"
    tnt = by_name(steps(small("tnt_ti")))
    assert tnt["blocks.0.attn_in weights"].note == "2 x 2 words of each patch"
    assert tnt["blocks.0.attn_out weights"].note == "class + 4 x 4 patches"


def test_the_model_is_left_as_it_is() -> None:
    model = small("vit_ti").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps(model)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_blocks_that_are_alike_are_one_line() -> None:
    def block(number: int, macs: int) -> Step:
        return Step(f"blocks.{number}", "Block", ((1, 2),), macs)

    found = [block(0, 1), block(1, 1), block(2, 1), block(3, 7), block(4, 1)]
    lines = list(without_repeats([Step("stem", "Stem", (), 0), *found]))
    assert lines[1:] == [
        found[0],
        ("blocks.1", "blocks.2", "blocks.0"),
        found[3],
        ("blocks.4", "blocks.4", "blocks.0"),
    ]
