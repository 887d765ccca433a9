from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from vtrain.data.loader import Batch
from vtrain.engine.evaluate import evaluate


class Table(nn.Module):
    """Returns row `images[i, 0, 0, 0]` of a table of logits."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.table[images[:, 0, 0, 0].long()]


def batches(targets: Tensor, size: int) -> list[Batch]:
    numbers = torch.arange(len(targets))
    images = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
    return [
        Batch(i, t, n, 0, len(n))
        for i, t, n in zip(
            images.split(size), targets.split(size), numbers.split(size), strict=True
        )
    ]


@pytest.mark.parametrize("size", [1, 3, 7, 101])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_counts_equal_a_loop_over_images(size: int, classes: int) -> None:
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(101, classes, generator=draw)
    targets = torch.randint(classes, (101,), generator=draw)
    model = Table(table).train()
    found = evaluate(model, batches(targets, size), lambda x: x, nullcontext, lambda t: t)
    rows = list(zip(table, targets, strict=True))
    ranks = [sorted(row.tolist(), reverse=True).index(row[t]) for row, t in rows]
    assert found["val/top1"] == sum(rank == 0 for rank in ranks) / 101
    assert found["val/top5"] == sum(rank < 5 for rank in ranks) / 101
    expected = -sum(row.log_softmax(0)[t].item() for row, t in rows) / 101
    assert found["val/loss"] == pytest.approx(expected, rel=1e-6)
    assert model.modes == [False] * len(model.modes)
    assert model.training


def test_the_shares_of_several_processes_are_added() -> None:
    table, targets = torch.eye(10)[torch.arange(10)], torch.arange(10)
    whole = evaluate(Table(table), batches(targets, 4), lambda x: x, nullcontext, lambda t: t)
    totals: list[Tensor] = []

    def keep(total: Tensor) -> Tensor:
        totals.append(total)
        return total

    parts = batches(targets, 4)
    for share in (parts[::2], parts[1::2], []):
        if share:
            evaluate(Table(table), share, lambda x: x, nullcontext, keep)
    images, loss, top1, _ = sum(totals).tolist()
    assert (images, top1) == (10, 10)
    assert loss / images == pytest.approx(whole["val/loss"])
