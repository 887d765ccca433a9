"""Low-rank updates, against the formula of the paper."""

import pytest
import torch
from torch import nn

from vtrain.layers.linear import Linear
from vtrain.layers.low_rank import add_low_rank, is_adapted, merged, parts, separated


def adapted(rank: int = 2, alpha: float = 6.0) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(Linear(8, 12), nn.Linear(12, 5, bias=False), nn.Linear(5, 3))
    for layer in model[:2]:
        add_low_rank(layer, rank, alpha)
    return model


def moved(model: nn.Module) -> nn.Module:
    """Give the factors values as training would."""
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter)
    return model


def test_at_first_the_layer_computes_to_the_bit_what_it_did() -> None:
    torch.manual_seed(1)
    layer, x = Linear(8, 12), torch.randn(4, 8)
    before, weight = layer(x), layer.weight.detach().clone()
    add_low_rank(layer, 2, 6.0)
    assert torch.equal(layer(x), before)
    assert torch.equal(layer.weight, weight)


def test_the_output_is_that_of_the_formula() -> None:
    model, x = moved(adapted()), torch.randn(4, 8)
    update = model[0].parametrizations.weight[0]
    weight = model[0].parametrizations.weight.original
    expected = x @ weight.T + model[0].bias + 6.0 / 2 * (x @ update.lora_a.T) @ update.lora_b.T
    torch.testing.assert_close(model[0](x), expected)


def test_only_factors_get_gradients_where_the_weight_is_fixed() -> None:
    model = adapted()
    update = model[0].parametrizations.weight
    update.original.requires_grad_(False)
    model[0](torch.randn(4, 8)).square().sum().backward()
    assert update.original.grad is None
    assert update[0].lora_b.grad.abs().max() > 0
    assert update[0].lora_a.grad.abs().max() == 0  # as B is 0


def test_merged_weights_are_those_of_a_plain_model_to_the_bit() -> None:
    model, x = moved(adapted()), torch.randn(4, 8)
    state = merged(model, model.state_dict())
    plain = nn.Sequential(Linear(8, 12), nn.Linear(12, 5, bias=False), nn.Linear(5, 3))
    plain.load_state_dict(state)
    assert torch.equal(plain(x), model(x))
    assert is_adapted(model)
    assert not is_adapted(plain)
    # Also where the products around it are computed in half precision.
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(x), model(x))


def test_parts_bring_back_what_was_merged() -> None:
    model = moved(adapted())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    again = separated(merged(model, state), parts(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    assert len(parts(state)) == 6
    assert {name.rpartition(".")[2] for name in parts(state, with_fixed=False)} == {
        "lora_a", "lora_b",
    }  # fmt: skip


def test_a_rank_that_is_not_low_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank \(5\) must be less than each side of a weight"):
        add_low_rank(nn.Linear(5, 9), 5, 1.0)
