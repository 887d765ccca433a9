import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from vtrain.bench.trace import STEPS, is_kernel, slowest_kernels


def work() -> None:
    x = torch.ones(64, 64)
    torch.relu(x @ x)


def test_kernels_come_with_their_share_and_calls_and_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    kernels = slowest_kernels(work, torch.device("cpu"), path, 20)
    calls = {kernel["name"]: kernel["calls"] for kernel in kernels}
    assert calls["aten::mm"] == calls["aten::relu"] == 1
    assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1)
    names = [event["name"] for event in json.loads(path.read_text())["traceEvents"]]
    assert names.count("aten::mm") == STEPS


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.skipif(torch.cuda.is_available(), reason="its kernels are seen")
def test_where_no_kernel_is_seen_the_rest_of_a_measurement_is_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        kernels = slowest_kernels(work, torch.device("cuda"), tmp_path / "trace.json", 5)
    assert kernels == []
    assert "allowed to read" in caplog.text


def test_on_a_gpu_only_kernels_count() -> None:
    def row(device: DeviceType, *, note: bool) -> SimpleNamespace:
        return SimpleNamespace(device_type=device, is_user_annotation=note)

    assert is_kernel(row(DeviceType.CUDA, note=False))
    assert not is_kernel(row(DeviceType.CPU, note=False))  # its time is that of its kernels
    assert not is_kernel(row(DeviceType.CUDA, note=True))  # such as a whole optimizer step
