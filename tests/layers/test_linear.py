import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.layers import linear as module
from vtrain.layers.linear import Linear, gelu_linear, linear, uses_cpu_bf16

# bf16 has 8 significant bits: a rounding moves a value by at most 2^-8 of it, 0.4 of that in the
# mean square. What is compared here comes of three roundings, of both factors and of the result
# (sums are kept in fp32): with their errors in step it would be 3 * 2^-8, 1.2e-2.
CLOSE = 1e-2


@pytest.fixture
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def layer_and_input(shape: tuple[int, ...], outputs: int, bias: bool) -> tuple[Linear, Tensor]:
    return Linear(shape[-1], outputs, bias=bias), torch.randn(shape, requires_grad=True)


def gradients(layer: nn.Linear, x: Tensor, out: Tensor) -> list[Tensor]:
    # Values of bf16 in either case: torch computes a linspace of bf16 in bf16, and how far that
    # strays depends on its version and on the processor.
    upstream = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).bfloat16()
    upstream = upstream.view(out.shape).to(out.dtype)
    inputs = [x, *layer.parameters()]
    return [out, *torch.autograd.grad(out, inputs, upstream)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((3, 5, 8), 24), ((3, 50, 8), 24), ((200, 8), 4), ((2, 2, 2, 8), 8), ((7, 0, 8), 4)],
)
def test_bf16_on_a_cpu_agrees_with_float64(shape, outputs, bias, autocast) -> None:
    layer, x = layer_and_input(shape, outputs, bias)
    exact = nn.Linear(shape[-1], outputs, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    y = x.detach().double().requires_grad_()
    with torch.autocast("cpu", enabled=False):
        expected = gradients(exact, y, exact(y))
    given = gradients(layer, x, layer(x))
    assert [t.dtype for t in given] == [torch.bfloat16, *[torch.float32] * (len(given) - 1)]
    for ours, theirs in zip(given, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= CLOSE * theirs.norm()


def test_bf16_on_a_cpu_is_as_close_to_the_truth_as_autocast(autocast) -> None:
    layer, x = layer_and_input((4, 300, 16), 48, bias=True)
    ours = gradients(layer, x, layer(x))
    theirs = gradients(layer, x, F.linear(x, layer.weight, layer.bias))
    with torch.autocast("cpu", enabled=False):
        truth = gradients(layer, x, F.linear(x, layer.weight, layer.bias))
    for a, b, exact in zip(ours, theirs, truth, strict=True):
        assert (a - exact).norm() <= 1.1 * (b - exact).norm()


def test_a_gelu_before_it_agrees_with_float64(autocast) -> None:
    layer, x = layer_and_input((5, 40, 24), 8, bias=True)
    hidden = (3 * x).bfloat16()
    with torch.autocast("cpu", enabled=False):
        exact = copy.deepcopy(layer).double()
        y = hidden.detach().double().requires_grad_()
        expected = gradients(exact, y, exact(F.gelu(y)))
    out = gelu_linear(hidden, layer.weight, layer.bias)
    for ours, theirs in zip(gradients(layer, hidden, out), expected, strict=True):
        assert (ours - theirs).norm() <= CLOSE * theirs.norm()


def test_a_gelu_before_it_is_not_kept(autocast) -> None:
    layer, x = layer_and_input((5, 40, 24), 8, bias=True)
    hidden = x.bfloat16()
    if not uses_cpu_bf16(hidden, layer.weight):
        pytest.skip("this processor leaves bf16 to torch")
    out = gelu_linear(hidden, layer.weight, layer.bias)
    assert torch.equal(out.grad_fn.saved_tensors[0].view(hidden.shape), hidden)


def test_without_autocast_it_is_torchs_layer_to_the_bit() -> None:
    layer, x = layer_and_input((3, 5, 8), 24, bias=True)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_cpu_that_cannot_compute_bf16_gets_torchs_layer(monkeypatch, autocast) -> None:
    monkeypatch.setattr(module, "_has_bf16", lambda: False)
    layer, x = layer_and_input((3, 5, 8), 24, bias=True)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_no_gradient_is_made_for_what_needs_none(frozen: str, autocast) -> None:
    layer, x = layer_and_input((3, 5, 8), 24, bias=True)
    parts = {"x": x, "weight": layer.weight, "bias": layer.bias}
    parts[frozen].requires_grad_(requires_grad=False)
    linear(x, layer.weight, layer.bias).sum().backward()
    assert {name for name, part in parts.items() if part.grad is None} == {frozen}
