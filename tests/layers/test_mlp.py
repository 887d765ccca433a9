import pytest
import torch

from vtrain.layers.mlp import MLP


def test_mlp_matches_the_formula_with_the_exact_gelu() -> None:
    mlp, x = MLP(6, 24), torch.randn(2, 5, 6)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias)


@pytest.mark.parametrize("keep_gelu", [True, False])
def test_in_bf16_both_ways_agree_with_fp32(keep_gelu: bool) -> None:
    mlp, x = MLP(256, 512, keep_gelu=keep_gelu), torch.randn(4, 9, 256)
    exact = mlp(x)
    with torch.autocast("cpu", torch.bfloat16):
        given = mlp(x)
    assert (given - exact).norm() <= 1e-2 * exact.norm()


def test_dropout_follows_both_linear_layers_in_training_only() -> None:
    mlp, x = MLP(64, 256, drop_rate=0.5), torch.randn(8, 64)
    dropped = (mlp(x) == 0).float().mean()
    assert 0.3 < dropped < 0.7
    assert (mlp.eval()(x) != 0).all()


def test_without_a_hidden_unit_it_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a larger mlp_ratio"):
        MLP(64, 0)
