import pytest
import torch

from vtrain import device
from vtrain.device import choose_device, choose_precision, cpu_flags
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
