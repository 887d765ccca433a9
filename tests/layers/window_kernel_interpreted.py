"""Tests of the window kernel by Triton's interpreter, on a CPU.

`test_window_kernel.py` runs this file in a process of its own: whether programs are interpreted is
settled when Triton is imported, for the whole process.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from tests.conftest import Result, tiny
from vtrain.layers.window_kernel import attend_in_windows_fused, is_available
from vtrain.layers.windows import Windows, attend_in_windows, shift_mask
from vtrain.models.swin import WindowAttention


@pytest.fixture(autouse=True)
def _products_of_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widen the factors: the interpreter would multiply the bits of bf16 as if they were integers.

    Products of bf16 are exact in fp32, and are added in fp32 on a GPU, too.
    """
    original = interpreter.InterpreterBuilder.create_dot

    def widened(x: interpreter.TensorHandle) -> interpreter.TensorHandle:
        if x.dtype.scalar != tl.bfloat16:
            return x
        bits = x.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self: object, a: object, b: object, *rest: object) -> object:
        return original(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


@pytest.fixture(autouse=True)
def _bounds_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what later Tritons do: in 3.6 a bound is an array, which numpy 2.4 takes for no index."""
    original = interpreter._patch_lang_tensor

    def patched(tensor: type, *rest: object) -> None:
        original(tensor, *rest)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)


def by_definition(
    qkv: Tensor, num_heads: int, bias: Tensor | None, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Attention in fp64, one window and head after the other."""
    B, windows, N, width = qkv.shape
    d = width // (3 * num_heads)
    out = []
    for b in range(B):
        for w in range(windows):
            for head in range(num_heads):
                q, k, v = (
                    qkv[b, w, :, (part * num_heads + head) * d :][:, :d] for part in range(3)
                )
                scores = q @ k.T * (d**-0.5 if scale is None else scale)
                scores = scores + (0 if bias is None else bias[head])
                scores = scores + (0 if mask is None else mask[w])
                out.append(scores.softmax(1) @ v)
    heads = torch.stack(out).view(B, windows, num_heads, N, d)
    return heads.transpose(2, 3).flatten(3)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual.double() - expected).abs().max()
    assert error <= tolerance * expected.abs().max()


TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}

CASES = [  # side, heads, head_dim, dtype, biased, masked, scale
    pytest.param(4, 2, 8, torch.float32, True, True, None, id="16 tokens"),
    pytest.param(7, 2, 32, torch.float32, True, True, None, id="49 tokens"),
    pytest.param(7, 1, 32, torch.bfloat16, True, True, None, id="49 tokens of bf16"),
    pytest.param(8, 1, 32, torch.bfloat16, True, False, 1.0, id="64 tokens, a scale, no mask"),
    pytest.param(4, 3, 32, torch.bfloat16, False, True, None, id="no bias"),
    pytest.param(4, 1, 16, torch.float16, False, False, None, id="fp16, neither"),
    pytest.param(3, 3, 5, torch.float32, True, True, 0.3, id="sizes that no hardware likes"),
]


@pytest.mark.parametrize(("side", "heads", "d", "dtype", "biased", "masked", "scale"), CASES)
def test_output_and_gradients_match_the_definition(
    side: int,
    heads: int,
    d: int,
    dtype: torch.dtype,
    biased: bool,
    masked: bool,
    scale: float | None,
) -> None:
    N = side**2
    mask = shift_mask(2 * side, 2 * side, side, side // 2) if masked else None  # 4 windows
    qkv = torch.randn(2, 4, N, 3 * heads * d).to(dtype).requires_grad_()
    bias = torch.randn(heads, N, N, requires_grad=True) if biased else None
    wanted = [qkv] if bias is None else [qkv, bias]
    out = attend_in_windows_fused(qkv, heads, bias, mask, scale)
    assert (out.shape, out.dtype) == ((2, 4, N, heads * d), dtype)
    # Of the other layout than the output.
    upstream = torch.randn(2, 4, heads * d, N).to(dtype).transpose(2, 3)
    gradients = torch.autograd.grad(out, wanted, upstream)

    exact = [x.detach().double().requires_grad_() for x in wanted]
    expected = by_definition(exact[0], heads, exact[1] if biased else None, mask, scale)
    assert_close(out, expected, TOLERANCE[dtype])
    exact_gradients = torch.autograd.grad(expected, exact, upstream.double())
    for actual, right in zip(gradients, exact_gradients, strict=True):
        assert_close(actual, right, TOLERANCE[dtype])


def test_a_low_bias_is_added_in_fp32_and_gets_a_low_gradient() -> None:
    qkv = torch.randn(2, 4, 16, 3 * 8).bfloat16().requires_grad_()
    bias, mask = torch.randn(1, 16, 16).bfloat16().requires_grad_(), shift_mask(8, 8, 4, 2)
    out = attend_in_windows_fused(qkv, 1, bias, mask.bfloat16())
    (gradient,) = torch.autograd.grad(out.sum(), bias)
    exact = bias.detach().double().requires_grad_()
    expected = by_definition(qkv.detach().double(), 1, exact, mask, None)
    assert gradient.dtype == torch.bfloat16
    assert_close(out, expected, 2e-2)
    assert_close(gradient, torch.autograd.grad(expected.sum(), exact)[0], 2e-2)


def test_a_program_that_takes_several_images_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    qkv = torch.randn(5, 4, 16, 3 * 8, requires_grad=True)
    bias, mask = torch.randn(1, 16, 16, requires_grad=True), shift_mask(8, 8, 4, 2)
    results = []
    for warps in (4096, 8, 1):  # one image for each program; three and two; all
        monkeypatch.setattr("vtrain.layers.window_kernel.FORWARD_WARPS", warps)
        monkeypatch.setattr("vtrain.layers.window_kernel.BACKWARD_WARPS", warps)
        out = attend_in_windows_fused(qkv, 1, bias, mask)
        results.append((out, *torch.autograd.grad(out.square().sum(), (qkv, bias))))
    for other in results[1:]:
        assert torch.equal(other[0], results[0][0])
        assert torch.equal(other[1], results[0][1])
        torch.testing.assert_close(other[2], results[0][2])  # its sum has another order


def test_tokens_that_the_mask_keeps_apart_do_not_influence_each_other() -> None:
    windows = Windows(8, 8, 4, 2)
    qkv, bias = torch.randn(1, 4, 16, 3 * 8), torch.randn(1, 16, 16)
    changed = qkv.clone()
    changed[0, 3, 0] += 5  # the first token of the last window, which has four regions
    before, after = (attend_in_windows_fused(x, 1, bias, windows.mask) for x in (qkv, changed))
    assert windows.mask is not None
    apart = windows.mask[3, :, 0] != 0
    assert apart.sum() == 12
    assert torch.equal(before[0, 3, apart], after[0, 3, apart])
    assert torch.equal(before[0, :3], after[0, :3])
    assert (before[0, 3, ~apart] != after[0, 3, ~apart]).any(1).all()


def test_gradients_stay_among_the_tokens_that_the_mask_leaves_together() -> None:
    mask = shift_mask(8, 8, 4, 2)
    qkv = torch.randn(1, 4, 16, 3 * 8, requires_grad=True)
    attend_in_windows_fused(qkv, 1, None, mask)[0, 3, 0].sum().backward()
    assert qkv.grad is not None
    apart = mask[3, 0] != 0
    assert qkv.grad[0, 3, apart].abs().max() < 1e-30  # exp(-100) is not quite nothing
    assert qkv.grad[0, :3].abs().max() == 0
    assert qkv.grad[0, 3, ~apart].abs().max() > 0


def test_a_layout_that_is_not_dense_is_read_right() -> None:
    mask, bias = shift_mask(8, 8, 4, 2), torch.randn(2, 16, 16)
    qkv = torch.randn(2, 4, 3 * 16, 16).transpose(2, 3)
    bias, mask = bias.transpose(1, 2), mask.transpose(1, 2)
    out = attend_in_windows_fused(qkv, 2, bias, mask)
    torch.testing.assert_close(out, attend_in_windows(qkv.contiguous(), 2, bias, mask))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the check's own
def test_the_operator_keeps_its_promises_to_the_compiler() -> None:
    qkv = torch.randn(2, 4, 4, 3 * 8, requires_grad=True)
    bias, mask = torch.randn(1, 4, 4, requires_grad=True), shift_mask(4, 4, 2, 1)
    for inputs in ((qkv, bias, mask, 1, 0.3), (qkv, None, None, 1, 0.3)):
        torch.library.opcheck(torch.ops.vtrain.attend_in_windows.default, inputs)


def test_compiling_breaks_no_graph() -> None:
    compiled = torch.compile(attend_in_windows_fused, fullgraph=True, backend="aot_eager")
    qkv = torch.randn(2, 4, 4, 3 * 8, requires_grad=True)
    bias, mask = torch.randn(1, 4, 4, requires_grad=True), shift_mask(4, 4, 2, 1)
    results = []
    for attend in (attend_in_windows_fused, compiled):
        out = attend(qkv, 1, bias, mask)
        results.append((out, *torch.autograd.grad(out.square().sum(), (qkv, bias))))
    for plain, traced in zip(*results, strict=True):
        assert torch.equal(plain, traced)


@pytest.mark.parametrize("name", ["swin_t", "swinv2_t"])
def test_a_model_with_the_kernel_computes_what_it_computes_without(name: str) -> None:
    model = tiny(name, depths=(2,), num_heads=(2,), patch_size=4, window_size=4, embed_dim=16)
    model.train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, 32, 32)  # maps of 8 x 8: four windows, shifted in the second block
    results = []
    for attend in (attend_in_windows, attend_in_windows_fused):
        for module in model.modules():
            if hasattr(module, "attend"):
                module.attend = attend
        torch.manual_seed(0)  # of drop path
        logits = model(images)
        results.append((logits, *torch.autograd.grad(logits.square().sum(), model.parameters())))
    for plain, fused in zip(*results, strict=True):
        assert_close(fused, plain.double(), 2e-5)


def test_under_autocast_the_kernel_gets_low_numbers_and_an_exact_bias() -> None:
    attention = WindowAttention(16, 2, 4, True)
    windows, x = Windows(8, 8, 4, 2), torch.randn(1, 8, 8, 16)
    attention.attend = attend_in_windows_fused
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(x, windows)
    assert out.dtype == torch.bfloat16
    assert_close(out, attention.double().requires_grad_(False)(x.double(), windows), 3e-2)
    attention.float()


def test_the_interpreter_counts_as_available() -> None:
    assert is_available(torch.device("cpu"))


def test_a_run_with_the_kernel_has_the_losses_of_one_without(
    small_run: Path, vtrain: Callable[..., Result]
) -> None:
    model = "{name: swin_t, patch_size: 2, embed_dim: 16, depths: [2], num_heads: [1]"
    losses = []
    for way in ("torch", "triton"):
        done = vtrain(
            "fit",
            small_run,
            f"model={model}, window_size: 4}}",
            "data.num_images=4",
            "schedule.warmup_epochs=0",
            "train={epochs: 1, batch_size: 4, precision: fp32, device: cpu}",
            f"train.window_attention={way}",
            "--run-dir",
            way,
        )
        assert done.code == 0, done.err
        rows = map(json.loads, Path(way, "metrics.jsonl").read_text().splitlines())
        losses.append([value for row in rows for key, value in row.items() if "/loss" in key])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert "4 shifted windows of 16 tokens, 1 heads of 16: triton" in done.err
