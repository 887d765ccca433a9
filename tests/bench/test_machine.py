import time

import pytest
import torch

from vtrain.bench.machine import OtherLoad, describe_machine, probe, process_age

CPU = torch.device("cpu")


def test_a_probe_finds_rates_that_no_machine_is_below_or_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(probe.__globals__["GEMM_SIZE"], "cpu", 128)
    monkeypatch.setitem(probe.__globals__["COPY_BYTES"], "cpu", 1 << 20)
    limits = probe(CPU, torch.float32, seconds=0.02)
    assert 1e8 < limits.flops < 1e15
    assert 1e7 < limits.bytes < 1e13


def test_the_machine_is_described_in_plain_data() -> None:
    facts = describe_machine(CPU)
    assert facts["torch"] == torch.__version__
    assert facts["device"] == "cpu"
    assert facts["cpus"] >= 1
    assert facts["processor"]


def test_our_own_work_is_not_other_load() -> None:
    others = OtherLoad(time.process_time)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    quiet = others.share()
    assert quiet is None or 0 <= quiet <= 1

    stranger = OtherLoad(lambda: 0.0)  # the same work, and none of it ours
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    loud = stranger.share()
    assert loud is None or loud > 0


def test_the_process_is_older_than_this_test_and_younger_than_a_day() -> None:
    first = process_age()
    time.sleep(0.05)
    assert first == 0 or first < process_age() < 86_400
