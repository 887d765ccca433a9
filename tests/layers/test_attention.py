import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vtrain.layers import attention
from vtrain.layers.attention import SelfAttention, attend, attend_plainly, self_attend


def textbook(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    weights = (torch.einsum("bhnd,bhmd->bhnm", q, k) * scale + bias).softmax(-1)
    return torch.einsum("bhnm,bhmd->bhnd", weights, v)


@pytest.mark.parametrize("kernel", [attend, attend_plainly, F.scaled_dot_product_attention])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("keys", [7, 20])
def test_every_kernel_agrees_with_the_textbook_in_float64(kernel, dtype, error, keys) -> None:
    shapes = [(2, 3, 5, 8), (2, 3, keys, 8), (2, 3, keys, 8), (1, 3, 5, keys)]
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    q, k, v, bias = inputs
    given, expected = kernel(q, k, v, bias, scale=0.3), textbook(*exact, scale=0.3)
    upstream = torch.randn_like(expected)
    given.backward(upstream.to(dtype))
    expected.backward(upstream)
    gradients = [(x.grad, y.grad) for x, y in zip(inputs, exact, strict=True)]
    for ours, theirs in [(given, expected), *gradients]:
        assert (ours - theirs).norm() <= error * theirs.norm()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("tokens", [7, 20])
@pytest.mark.parametrize("periods", [0, 1, 2])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_self_attention_agrees_with_the_textbook_in_float64(
    dtype, error, tokens, periods, scale
) -> None:
    shapes = [(4, tokens, 3 * 3 * 8), (max(periods, 1), 3, tokens, tokens)]
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    qkv, bias = (x.detach().double().requires_grad_() for x in inputs)
    q, k, v = qkv.view(4, tokens, 3, 3, 8).permute(2, 0, 3, 1, 4)
    biases = bias.repeat(4 // len(bias), 1, 1, 1) * bool(periods)
    expected = textbook(q, k, v, biases, 8**-0.5 if scale is None else scale)
    expected = expected.transpose(1, 2).flatten(2)
    given = self_attend(inputs[0], 3, inputs[1] if periods else None, scale)
    upstream = torch.randn_like(expected)
    given.backward(upstream.to(dtype))
    expected.backward(upstream)
    gradients = [(inputs[0].grad, qkv.grad)] + [(inputs[1].grad, bias.grad)] * bool(periods)
    for ours, theirs in [(given, expected), *gradients]:
        assert ours.dtype == dtype
        assert (ours - theirs).norm() <= error * theirs.norm()


@pytest.mark.parametrize("tokens", [attention.RECOMPUTE_ABOVE, attention.RECOMPUTE_ABOVE + 1, 400])
def test_many_tokens_attend_as_in_float64_and_keep_no_weights(tokens: int) -> None:
    qkv = torch.randn(3, tokens, 3 * 2 * 8, dtype=torch.bfloat16, requires_grad=True)
    exact = qkv.detach().double().requires_grad_()
    q, k, v = exact.view(3, tokens, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = textbook(q, k, v, torch.zeros(()), 8**-0.5).transpose(1, 2).flatten(2)
    given = self_attend(qkv, 2)
    assert given.grad_fn is not None
    saved = [tensor.shape for tensor in given.grad_fn.saved_tensors]
    assert (torch.Size([6, tokens, tokens]) in saved) == (tokens <= attention.RECOMPUTE_ABOVE)
    upstream = torch.randn_like(expected)
    given.backward(upstream.bfloat16())
    expected.backward(upstream)
    for ours, theirs in [(given, expected), (qkv.grad, exact.grad)]:
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm()


def test_a_softmax_in_place_is_torchs_to_the_bit() -> None:
    for tokens in (7, 16, 31, 49, 65, 197):
        scores, grad = torch.randn(2, 12, tokens, tokens).bfloat16()
        weights = scores.softmax(-1, dtype=torch.float32).bfloat16()
        exact = torch.ops.aten._softmax_backward_data(
            grad.float(), weights.float(), -1, torch.float32
        )
        ours = attention.softmax_(scores.clone())
        assert (ours - weights).abs().max() <= 2**-8
        ours = attention.softmax_backward_(grad.clone(), weights)
        assert (ours - exact).norm() <= 5e-3 * exact.norm()
        narrow = attention._softmax_dtype(scores)
        assert torch.equal(
            attention.softmax_(scores.clone()), scores.softmax(-1, dtype=narrow).bfloat16()
        )


@pytest.mark.parametrize("has_amx", [True, False])
def test_bf16_on_a_cpu_is_fused_only_with_matrix_tiles(monkeypatch, has_amx: bool) -> None:
    fused = []
    monkeypatch.setattr(attention, "_has_amx", lambda: has_amx)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *_, **__: fused.append(q))
    q = torch.randn(1, 1, 4, 8, dtype=torch.bfloat16)
    attend(q, q, q)
    assert bool(fused) == has_amx


def test_the_flop_counter_sees_both_products_on_the_meta_device() -> None:
    q, k = torch.empty(2, 3, 5, 8, device="meta"), torch.empty(2, 3, 7, 8, device="meta")
    with FlopCounterMode(display=False) as counter:
        attend(q, k, k)
    assert counter.get_total_flops() == 2 * 2 * (2 * 3 * 5 * 7 * 8)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_self_attention_matches_the_formula(qkv_bias: bool) -> None:
    layer, x = SelfAttention(8, num_heads=2, qkv_bias=qkv_bias).double(), torch.randn(3, 5, 8)
    q, k, v = layer.qkv(x.double()).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    mixed = textbook(q, k, v, bias=torch.zeros(()), scale=4**-0.5).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x.double()), layer.proj(mixed), rtol=0, atol=1e-12)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_few_queries_give_the_first_rows(qkv_bias: bool) -> None:
    layer, x = SelfAttention(8, 2, qkv_bias).double(), torch.randn(3, 5, 8).double()
    torch.testing.assert_close(layer(x, queries=2), layer(x)[:, :2], rtol=0, atol=1e-12)


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"embed_dim \(10\) must be a multiple of num_heads \(3\)"):
        SelfAttention(10, 3)
