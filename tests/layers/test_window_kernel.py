import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vtrain.layers.window_kernel import attend_in_windows_fused, fits, is_available
from vtrain.layers.windows import attend_in_windows, shift_mask


def test_the_interpreter_finds_no_fault_in_the_kernel() -> None:
    pytest.importorskip("triton")  # which a torch for the CPU alone comes without
    file = Path(__file__).with_name("window_kernel_interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_gpu_or_the_interpreter_the_kernel_is_not_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not is_available(torch.device("cpu"))


def test_without_triton_the_kernel_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not is_available(torch.device("cpu"))


@pytest.mark.parametrize(
    ("dtype", "tokens", "head_dim"),
    [(torch.float64, 16, 32), (torch.bfloat16, 81, 32), (torch.bfloat16, 49, 65)],
)
def test_sizes_without_a_kernel_are_computed_by_torch(
    dtype: torch.dtype, tokens: int, head_dim: int
) -> None:
    assert not fits(dtype, tokens, head_dim)
    qkv, bias = torch.randn(1, 2, tokens, 3 * head_dim, dtype=dtype), torch.randn(1, tokens, tokens)
    out = attend_in_windows_fused(qkv, 1, bias.to(dtype), None)
    assert torch.equal(out, attend_in_windows(qkv, 1, bias.to(dtype), None))


H100 = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from vtrain.layers import window_kernel, window_triton

class H100:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)

driver.set_active(H100())
qkv, out = torch.empty(6, 4, 49, 288).bfloat16(), torch.empty(6, 4, 49, 96).bfloat16()
bias, mask = torch.empty(3, 49, 49), torch.empty(4, 49, 49)
for kernel, tensors in (
    (window_triton.forward, (qkv, bias, mask, out)),
    (window_triton.backward, (qkv, bias, mask, out, qkv, bias)),
):
    grid, images, known = window_kernel._launch(qkv, mask, 3, window_kernel.FORWARD_WARPS)
    compiled = kernel.warmup(*tensors, *images, 1.0, grid=grid, **known)
    assert "wgmma" in compiled.asm["ptx"], "no tensor cores"
    assert "cp.async.cg.shared.global" in compiled.asm["ptx"], "numbers are fetched one by one"
    assert compiled.metadata.shared <= 227 * 1024
"""


def test_the_programs_compile_for_an_h100(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", H100], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


CUDA = torch.device("cuda")


def inputs(side: int, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values, bias, mask and a gradient on the GPU."""
    N, d = side**2, 32
    qkv = torch.randn(6, 4, N, 3 * heads * d, device=CUDA).to(dtype).requires_grad_()
    bias = torch.randn(heads, N, N, device=CUDA, requires_grad=True)
    mask = shift_mask(2 * side, 2 * side, side, side // 2).to(CUDA)
    return qkv, bias, mask, torch.randn(6, 4, N, heads * d, device=CUDA).to(dtype)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("side", "heads", "dtype", "compiled"),
    [
        *(
            (side, 3, dtype, False)
            for side in (4, 7, 8)
            for dtype in (torch.float32, torch.bfloat16)
        ),
        (5, 2, torch.bfloat16, False),
        (7, 24, torch.float16, False),
        (7, 3, torch.float32, True),
        (7, 3, torch.bfloat16, True),
    ],
)
def test_on_a_gpu_the_kernel_computes_what_torch_computes_in_fp64(
    side: int, heads: int, dtype: torch.dtype, compiled: bool
) -> None:
    qkv, bias, mask, upstream = inputs(side, heads, dtype)
    attend = attend_in_windows_fused
    if compiled:
        torch.compiler.reset()
        attend = torch.compile(attend, fullgraph=True, dynamic=False)
    out = attend(qkv, heads, bias, mask)
    results = [out, *torch.autograd.grad(out, (qkv, bias), upstream)]
    exact = [x.detach().double().requires_grad_() for x in (qkv, bias)]
    right = attend_in_windows(exact[0], heads, exact[1], mask.double())
    rights = [right, *torch.autograd.grad(right, exact, upstream.double())]
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}[dtype]
    for x, y in zip(results, rights, strict=True):
        assert (x.double() - y).abs().max() <= tolerance * y.abs().max()


@pytest.mark.gpu
def test_on_a_gpu_the_kernel_gives_the_same_bits_every_time() -> None:
    qkv, bias, mask, upstream = inputs(7, 3, torch.bfloat16)
    runs = []
    for _ in range(3):
        out = attend_in_windows_fused(qkv, 3, bias, mask)
        runs.append([out, *torch.autograd.grad(out, (qkv, bias), upstream)])
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))
