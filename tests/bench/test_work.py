import pytest
import torch
from torch import nn

from tests.conftest import tiny
from vtrain.bench.machine import Limits
from vtrain.bench.work import Kernel, Work
from vtrain.layers.attention import attend, attend_plainly
from vtrain.models.profile import count_macs


def test_a_linear_layer_needs_two_products_and_three_tensors_for_each() -> None:
    layer, x = nn.Linear(8, 16, bias=False), torch.randn(5, 8)
    with Work(bytes_per_number=4) as work:
        layer(x).sum().backward()
    assert work.flops == 2 * (2 * 5 * 8 * 16)  # forward and weight gradient; x needs none
    assert work.bytes == 2 * 4 * (5 * 8 + 8 * 16 + 5 * 16)


def test_a_step_needs_what_the_textbook_says() -> None:
    model = tiny("vit_ti", pooling="mean")  # without the class token nothing is left out
    with Work(bytes_per_number=4) as work:
        model(torch.randn(3, 3, 32, 32)).sum().backward()
    patches = (32 // 8) ** 2 * (3 * 8 * 8) * 32
    # Twice the forward pass goes back, but for the gradient of the pixels.
    assert work.flops == 3 * (3 * 2 * count_macs(model) - 2 * patches)


def test_the_class_token_saves_work_in_the_last_block() -> None:
    flops = []
    for pooling in ("cls", "mean"):
        model = tiny("vit_ti", pooling=pooling)
        with Work(bytes_per_number=4) as work:
            model(torch.randn(1, 3, 32, 32)).sum().backward()
        flops.append(work.flops)
    assert flops[0] < flops[1]


@pytest.mark.parametrize("kernel", [attend, attend_plainly])
def test_attention_counts_the_same_fused_or_not(kernel) -> None:  # type: ignore[no-untyped-def]
    B, H, N, d = 2, 3, 7, 4
    q, k, v = (torch.randn(B, H, N, d, requires_grad=True) for _ in range(3))
    with Work(bytes_per_number=2) as work:
        kernel(q, k, v).sum().backward()
    assert work.flops == 6 * 2 * B * H * N * N * d


def test_fused_attention_moves_its_inputs_and_its_output_once() -> None:
    q, k, v = (torch.randn(1, 1, 5, 4) for _ in range(3))
    with Work(bytes_per_number=2) as work:
        attend(q, k, v)
    assert work.bytes == 2 * 4 * 5 * 4


def test_layer_norm_moves_nine_tensors() -> None:
    norm, x = nn.LayerNorm(4), torch.randn(3, 4, requires_grad=True)
    with Work(bytes_per_number=2) as work:
        norm(x).sum().backward()
    assert (work.flops, work.bytes) == (0, 9 * 2 * 3 * 4)


def test_the_optimizer_moves_28_bytes_for_each_parameter() -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.randn(1, 3)).sum().backward()
    with Work(bytes_per_number=2) as work:
        optimizer.step()
    assert work.bytes == 28 * (3 * 2 + 2)


def test_a_kernel_takes_as_long_as_the_slower_of_its_two_sides() -> None:
    limits = Limits(flops=100, bytes=10)
    assert Kernel(flops=200, bytes=10).seconds(limits) == 2
    assert Kernel(flops=200, bytes=50).seconds(limits) == 5
    work = Work(4, [Kernel(200, 10), Kernel(200, 50)])
    assert work.seconds(limits) == 7
