"""Which layers of each kind of model get low-rank updates, and that nothing changes at first."""

import pytest
import torch
from torch import nn

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.layers.low_rank import LowRank, merged
from vtrain.models.lora import Lora, adapt

MODELS = ["vit_ti", "deit_ti_distilled", "deit3_s", "tnt_ti", "swin_t", "swinv2_t"]
ATTENTION = {"tnt_ti": {"qk", "v", "proj"}}


@pytest.mark.parametrize("name", MODELS)
def test_the_start_is_the_model_to_the_bit_and_updates_and_heads_alone_learn(name: str) -> None:
    model = shaken(tiny(name)).eval()
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    layers = adapt(model, Lora(rank=2))
    assert torch.equal(model(images), before)
    assert {layer.rpartition(".")[2] for layer in layers} == ATTENTION.get(name, {"qkv", "proj"})
    attention = [n for n, m in model.named_modules() if n.rpartition(".")[2].startswith("attn")]
    assert {layer.rpartition(".")[0] for layer in layers} == set(attention)
    heads = model.depth_groups()[-1]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if "lora_" not in n} == {
        n for n, _ in model.named_parameters() if n.split(".")[0] in heads
    }
    assert sum("lora_" in n for n in trained) == 2 * len(layers)
    # Layer-wise rates know the new parameters, too.
    assert {model.layer_id(n) for n in trained} <= set(range(len(model.depth_groups())))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_merged_is_an_ordinary_model_that_says_the_same(name: str) -> None:
    model = shaken(tiny(name)).eval()
    layers = adapt(model, Lora(rank=2, alpha=3.0, mlp=True))
    assert any("mlp" in layer for layer in layers)
    assert not any("cpb_mlp" in layer for layer in layers)
    for module in model.modules():
        if isinstance(module, LowRank):
            assert module.scale == 3.0 / 2
            nn.init.normal_(module.lora_b, std=0.1)
    images = torch.randn(2, 3, 32, 32)
    plain = tiny(name).eval()
    plain.load_state_dict(merged(model, model.state_dict()))
    assert torch.equal(plain(images), model(images))


@pytest.mark.parametrize("name", ["vit_ti", "tnt_ti", "swin_t"])
def test_a_step_moves_updates_and_heads_and_nothing_else(name: str) -> None:
    model = tiny(name).train()
    adapt(model, Lora(rank=2))
    for module in model.modules():
        if isinstance(module, LowRank):  # of a B that is 0, A has no gradient
            nn.init.normal_(module.lora_b, std=0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}


def test_a_rank_that_is_too_high_names_the_layer() -> None:
    with pytest.raises(ValueError, match=r"lora.rank \(512\) must be less .* of blocks.0.attn.qkv"):
        adapt(tiny("vit_ti"), Lora(rank=512))
