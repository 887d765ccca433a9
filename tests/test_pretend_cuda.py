"""The stand-in for a GPU refuses and notes what a GPU does."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.pretend_cuda import DEVICE, PretendCuda, TapeBackend, pretend_cuda


@pytest.fixture
def gpu() -> Iterator[type[PretendCuda]]:
    with pretend_cuda() as pretended:
        yield pretended


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(gpu: type[PretendCuda]) -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match="on cuda:0 and on the CPU"):
        there + here
    with pytest.raises(TypeError, match="to numpy"):
        there.numpy()
    assert (there + 1).device == DEVICE
    assert (there + torch.tensor(1.0)).sum().device == DEVICE  # a single number may be anywhere
    assert torch.equal((there * 2).cpu(), here * 2)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.copy_(torch.ones(3)),
        lambda _: torch.ones(3).to("cuda"),
        lambda _: torch.tensor([1.0], device="cuda"),
        lambda _: torch.cuda.synchronize(),
    ],
)
def test_the_pretended_gpu_notes_what_waits_for_a_gpu(
    gpu: type[PretendCuda], wait: Callable[[Any], object]
) -> None:
    there = torch.ones(3, device="cuda")
    (there * 2 + 1).to(torch.bfloat16).copy_(torch.ones(3), non_blocking=True)
    torch.ones(3).to("cuda", non_blocking=True)
    assert gpu.waits == []
    wait(there)
    assert len(gpu.waits) == 1


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x + torch.ones(3).to("cuda", non_blocking=True),
        lambda x: x.copy_(torch.ones(3), non_blocking=True),
        lambda x: x * float(x[0]),
    ],
)
def test_a_recording_has_nothing_from_the_host(
    gpu: type[PretendCuda], work: Callable[[Any], Any]
) -> None:
    there = torch.ones(3, device="cuda")
    result, replay = TapeBackend(DEVICE).capture((there * 2).sum)
    replay()
    assert float(result) == 6
    with pytest.raises(RuntimeError, match=r"capturing|synchronizing"):
        TapeBackend(DEVICE).capture(lambda: work(there).sum())
