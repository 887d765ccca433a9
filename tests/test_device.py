import re
from pathlib import Path

import pytest
import torch

from vtrain import device
from vtrain.device import (
    check_compiler,
    choose_device,
    choose_precision,
    cpu_flags,
    naming_failures,
)
from vtrain.errors import DeviceError


def test_auto_falls_back_to_the_cpu_and_cuda_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match="no CUDA device") as caught:
        choose_device("cuda")
    assert caught.value.exit_code == 6
    assert "train.device=cpu" in str(caught.value)


def test_a_device_that_does_not_exist_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device("cuda", local_rank=1) == torch.device("cuda:1")
    assert current == [1]
    with pytest.raises(DeviceError, match="cuda:99 does not exist; this machine has 2"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), ({"avx2"}, "fp32"), (set(), "fp32")],
)
def test_auto_precision_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: flags)
    assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(DeviceError, match="use bf16 or fp32"):
        choose_precision("fp16", torch.device("cpu"))


def test_the_flags_of_this_processor_are_words() -> None:
    assert all(flag.isascii() and " " not in flag for flag in cpu_flags())


@pytest.mark.parametrize(
    ("device", "variable", "lacks"),
    [("cpu", "CXX", "a C++ compiler"), ("cuda", "CC", "a C compiler")],
)
def test_compiling_is_refused_or_left_out_where_a_compiler_is_missing(
    device: str,
    variable: str,
    lacks: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(variable, "")
    monkeypatch.setattr("vtrain.device.find_spec", lambda name: name)
    place = torch.device(device)
    with pytest.raises(DeviceError, match=re.escape(f"torch.compile needs {lacks}")) as refused:
        check_compiler(True, place)
    assert refused.value.where == "train.compile"
    check_compiler(False, place)
    with caplog.at_level("INFO", logger="vtrain"):
        check_compiler("auto", place)
    assert ("nothing is compiled" in caplog.text) == (device == "cuda")
    (tmp_path / "my-compiler").touch(mode=0o755)
    monkeypatch.setenv(variable, "my-compiler -O2")
    check_compiler(True, place)


def test_without_triton_a_gpu_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtrain.device.find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="needs Triton"):
        check_compiler(True, torch.device("cuda"))


def test_what_the_compiler_cannot_do_is_no_bug_of_ours() -> None:
    class CppCompileError(RuntimeError):
        __module__ = "torch._inductor.exc"  # which takes seconds to import

    with (
        pytest.raises(DeviceError, match="compile failed: C") as named,
        naming_failures("batch_size", "take less"),
    ):
        raise CppCompileError("C++ compile error: Python.h: No such file or directory")
    assert named.value.hint == "set train.compile=false"
