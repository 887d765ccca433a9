import pytest
import torch
from torch import Tensor, nn

from vtrain.layers.norm import LayerNorm


def layers(channels: int, dtype: torch.dtype) -> tuple[LayerNorm, nn.LayerNorm]:
    """Return a layer with weights of `dtype`, and torch's in fp64 with the same weights."""
    ours, exact = LayerNorm(channels), nn.LayerNorm(channels, dtype=torch.float64)
    nn.init.uniform_(ours.weight, 0.5, 1.5)
    nn.init.normal_(ours.bias)
    ours.to(dtype)
    exact.load_state_dict(ours.state_dict())
    return ours, exact


def gradients(layer: nn.LayerNorm, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = layer(x)
    return [out, *torch.autograd.grad(out, [x, *layer.parameters()], upstream.to(out.dtype))]


@pytest.mark.parametrize("weights", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(16384, 96), (4, 50, 24), (3, 2, 2, 8), (0, 8)])
def test_bf16_on_a_cpu_agrees_with_float64(shape: tuple[int, ...], weights: torch.dtype) -> None:
    layer, exact = layers(shape[-1], weights)
    x, upstream = (torch.randn(shape).bfloat16() for _ in range(2))
    given, expected = gradients(layer, x, upstream), gradients(exact, x.double(), upstream)
    assert [t.dtype for t in given] == [torch.bfloat16, torch.bfloat16, weights, weights]
    for ours, theirs in zip(given, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= 5e-3 * theirs.norm()


def test_in_fp32_it_is_torchs_layer_to_the_bit() -> None:
    layer, x, upstream = LayerNorm(8), torch.randn(5, 8), torch.randn(5, 8)
    theirs = nn.LayerNorm(8)
    for a, b in zip(gradients(layer, x, upstream), gradients(theirs, x, upstream), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_no_gradient_is_made_for_what_needs_none(frozen: str) -> None:
    layer, x = LayerNorm(8), torch.randn(5, 8, dtype=torch.bfloat16, requires_grad=True)
    parts = {"x": x, "weight": layer.weight, "bias": layer.bias}
    parts[frozen].requires_grad_(requires_grad=False)
    layer(x).sum().backward()
    assert {name for name, part in parts.items() if part.grad is None} == {frozen}
