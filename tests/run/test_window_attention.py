import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import Result, tiny
from vtrain.errors import ConfigError
from vtrain.layers.window_kernel import attend_in_windows_fused
from vtrain.layers.windows import attend_in_windows
from vtrain.run import window_attention
from vtrain.run.window_attention import (
    Shape,
    choose_window_attention,
    example,
    fault,
    largest_error,
    window_shapes,
)

Vtrain = Callable[..., Result]
CPU = torch.device("cpu")
SHAPE = Shape(windows=4, tokens=16, num_heads=2, head_dim=8, masked=True)
SWIN = (
    "model={name: swin_t, patch_size: 2, embed_dim: 16, depths: [2], num_heads: [2], "
    "window_size: 4}"
)


def choose(way: Any, model: Any, compiled: bool = False) -> None:
    choose_window_attention(way, model, CPU, torch.float32, 8, compiled)


def ways(model: nn.Module) -> list[bool]:
    """For each block whether it attends by the kernel."""
    return [
        module.attend is attend_in_windows_fused
        for module in model.modules()
        if hasattr(module, "attend")
    ]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel count as right."""
    monkeypatch.setattr(window_attention, "fault", lambda *_: None)


def takes(monkeypatch: pytest.MonkeyPatch, **milliseconds: float) -> None:
    """Let the ways take so long."""
    names = {attend_in_windows: "torch", attend_in_windows_fused: "triton"}
    monkeypatch.setattr(
        window_attention, "milliseconds", lambda call: milliseconds[names[call.args[0]]]
    )


def test_the_shapes_of_a_model_are_those_that_its_blocks_see() -> None:
    model = tiny("swin_t", depths=(3, 2), num_heads=(2, 4), window_size=4)
    seen: dict[int, tuple[int, ...]] = {}

    def recording(block: int) -> Callable[..., Tensor]:
        def attend(qkv: Tensor, num_heads: int, bias: Tensor | None, mask: Tensor | None) -> Tensor:
            d = qkv.shape[-1] // (3 * num_heads)
            seen[block] = (qkv.shape[1], qkv.shape[2], num_heads, d, mask is not None)
            return attend_in_windows(qkv, num_heads, bias, mask)

        return attend

    layers = [module for module in model.modules() if hasattr(module, "attend")]
    for number, layer in enumerate(layers):
        layer.attend = recording(number)
    model(torch.zeros(1, 3, 32, 32))
    found = {
        layers.index(layer): (s.windows, s.tokens, s.num_heads, s.head_dim, s.masked)
        for s, owners in window_shapes(model).items()
        for layer in owners
    }
    assert found == seen
    assert len(window_shapes(model)) == 4


def broken_output(qkv: Tensor, *rest: Any) -> Tensor:
    return 1.01 * attend_in_windows(qkv, *rest)


def broken_mask(qkv: Tensor, num_heads: int, bias: Tensor, mask: Tensor) -> Tensor:
    return attend_in_windows(qkv, num_heads, bias, mask.roll(1, 0))


def broken_gradient(qkv: Tensor, num_heads: int, bias: Tensor, mask: Tensor) -> Tensor:
    return attend_in_windows(qkv, num_heads, bias.detach() + 0 * bias, mask)


def broken_number(qkv: Tensor, *rest: Any) -> Tensor:
    return attend_in_windows(qkv, *rest) * torch.nan


def broken_launch(*_: Any) -> Tensor:
    raise RuntimeError("out of resources: shared memory\nand more")


@pytest.mark.parametrize(
    "broken", [broken_output, broken_mask, broken_gradient, broken_number, broken_launch]
)
def test_a_kernel_that_is_wrong_or_fails_is_refused(
    broken: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_attention, "is_available", lambda _: True)
    reason = fault(SHAPE, CPU, torch.float32, broken)
    assert reason is not None
    assert ("RuntimeError: out of resources" if broken is broken_launch else "is off by") in reason
    assert "\n" not in reason


def test_a_kernel_that_rounds_otherwise_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_attention, "is_available", lambda _: True)
    assert fault(SHAPE, CPU, torch.float32, attend_in_windows) is None
    assert fault(SHAPE, CPU, torch.bfloat16, attend_in_windows) is None
    assert largest_error(attend_in_windows, example(SHAPE, CPU, torch.bfloat16, 2)) > 0


def test_the_check_changes_no_draw_of_the_run() -> None:
    before = torch.random.get_rng_state()
    largest_error(attend_in_windows, example(SHAPE, CPU, torch.float32, 2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("works")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_faster_way_is_taken_for_each_shape(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if compiled:
        monkeypatch.setattr(torch, "compile", lambda attend, **_: attend)
    caplog.set_level(logging.INFO)
    model = tiny("swin_t", window_size=4)
    takes(monkeypatch, torch=2.0, triton=1.0)
    choose("fastest", model, compiled)
    assert ways(model) == [True] * 4
    model = tiny("swin_t", window_size=4)
    takes(monkeypatch, torch=1.0, triton=1.0)
    choose("fastest", model, compiled)
    assert ways(model) == [False] * 4
    assert "triton is not faster: 1.000 ms against 1.000 ms of torch" in caplog.text


@pytest.mark.usefixtures("works")
def test_shapes_are_decided_on_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("swin_t", window_size=4)
    monkeypatch.setattr(
        window_attention, "slowness", lambda shape, *_: "slow" if shape.masked else None
    )
    choose("fastest", model)
    assert ways(model) == [True, False, True, False]


@pytest.mark.usefixtures("works")
def test_a_process_takes_no_kernel_that_another_one_cannot_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("swin_t", window_size=4)
    takes(monkeypatch, torch=2.0, triton=1.0)
    monkeypatch.setattr("vtrain.distributed.any_true", lambda _: True)
    choose("fastest", model)
    assert ways(model) == [False] * 4


def test_a_gpu_that_failed_is_not_taken_for_a_kernel_that_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> Tensor:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(window_attention, "is_available", lambda _: True)
    with pytest.raises(torch.AcceleratorError):
        fault(SHAPE, CPU, torch.float32, fails)


@pytest.mark.usefixtures("works")
def test_torch_stays_where_the_ways_cannot_be_timed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(call: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(window_attention, "milliseconds", fails)
    caplog.set_level(logging.INFO)
    model = tiny("swin_t", window_size=4)
    choose("fastest", model)
    assert ways(model) == [False] * 4
    assert "torch (it cannot be timed: OutOfMemoryError: CUDA out of memory)" in caplog.text


@pytest.mark.usefixtures("works")
def test_triton_takes_the_kernel_without_timing_and_no_checkpoint_shows_it() -> None:
    model = tiny("swin_t", window_size=4)
    keys = list(model.state_dict())
    choose("triton", model)
    assert ways(model) == [True] * 4
    assert list(model.state_dict()) == keys


def test_the_fastest_way_on_a_cpu_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = tiny("swin_t", window_size=4)
    choose("fastest", model)
    assert ways(model) == [False] * 4


def test_the_fastest_way_of_a_model_without_windows_is_its_only_one() -> None:
    choose("fastest", tiny("vit_ti"))


def test_the_kernel_is_refused_for_a_model_without_windows() -> None:
    with pytest.raises(ConfigError, match="the model has no windows"):
        choose("triton", tiny("vit_ti"))


def test_the_kernel_is_refused_for_windows_that_are_too_large() -> None:
    with pytest.raises(ConfigError, match="no kernel for 1 windows of 256 tokens"):
        choose("triton", tiny("swin_t", window_size=16))


def test_the_kernel_is_refused_where_there_is_no_gpu(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = vtrain("fit", small_run, SWIN, "train.window_attention=triton", "train.device=cpu")
    assert done.code == 6
    (line,) = [line for line in done.err.splitlines() if line.startswith("vtrain: ")]
    assert "train.window_attention is triton, but the kernel needs Triton and an NVIDIA GPU" in line


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "compiled"), [(torch.float32, False), (torch.bfloat16, True)])
def test_on_a_gpu_the_faster_way_is_found(
    dtype: torch.dtype, compiled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cuda = torch.device("cuda")
    model = tiny("swin_t", window_size=4).to(cuda)
    choose_window_attention("fastest", model, cuda, dtype, 64, compiled)
    assert caplog.text.count("triton takes") == 4  # measured, not refused
    model(torch.zeros(2, 3, 32, 32, device=cuda))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "how",
    [
        ("train.precision=fp32", "train.compile=false"),
        ("train.precision=bf16", "train.compile=true"),
        ("train.precision=bf16", "train.compile=false", "train.cuda_graph=true"),
    ],
    ids=" ".join,
)
def test_on_a_gpu_a_run_trains_with_the_kernel(
    small_run: Path, vtrain: Vtrain, how: tuple[str, ...]
) -> None:
    options = "train.window_attention=triton", "data.num_images=320"
    done = vtrain("fit", small_run, SWIN, *options, *how)
    assert done.code == 0, done.err
    assert "launched as usual" not in done.err
    assert done.err.count("windows of 16 tokens, 2 heads of 8: triton") == 2
