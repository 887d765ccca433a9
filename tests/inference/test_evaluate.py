from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from vtrain.data.datasets.samples import ArraySamples
from vtrain.data.loading.batches import Batch
from vtrain.data.loading.loader import EvalLoader
from vtrain.data.preprocess import Preprocess
from vtrain.distributed import Rank
from vtrain.inference.evaluate import evaluate
from vtrain.inference.outputs import padded_to


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


class Exact(nn.Module):
    """Weighs pixels with small integers: sums of these are exact in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randint(-9, 10, (12, 10), generator=draw).float())

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).float() @ self.weight


def totals_of(samples: ArraySamples, processes: int, batch_size: int) -> list[float]:
    """Evaluate as each of several processes in turn, and return the sums over them."""
    totals: list[Tensor] = []

    def keep(total: Tensor) -> Tensor:
        totals.append(total)
        return torch.ones(4)

    loaders = [
        EvalLoader(
            samples,
            Preprocess(2),
            batch_size=batch_size,
            rank=Rank(rank, world_size=processes),
            on_bad_image="error",
            num_workers="auto",
            cache="auto",
        )
        for rank in range(processes)
    ]
    most = max(map(len, loaders))
    for loader in loaders:
        batches = padded_to(most, loader.batches(), torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
        evaluate(Exact(), batches, lambda x: x, nullcontext, keep)
    sums: list[float] = torch.stack(totals).sum(0).tolist()
    return sums


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 101, 1000])
def test_counts_are_the_same_integers_in_any_number_of_processes(
    count: int, batch_size: int
) -> None:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 3, 2, 2), generator=draw, dtype=torch.uint8)
    targets = torch.randint(10, (count,), generator=draw)
    logits = Exact()(images)
    loss = nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    best = logits.topk(5).indices
    hits = (best[:, 0] == targets).sum().item(), (best == targets[:, None]).sum().item()
    for processes in (1, 2, 3, 4):
        found = totals_of(ArraySamples(images, targets, "x"), processes, batch_size)
        assert (found[0], *found[2:]) == (count, *hits)
        assert found[1] == pytest.approx(loss, rel=1e-6)


def test_all_processes_call_the_model_equally_often() -> None:
    own = batches(torch.arange(3), size=2)
    image = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    padded = list(padded_to(4, own, image))
    assert padded[:2] == own
    assert [batch.targets.tolist() for batch in padded[2:]] == [[-100], [-100]]
    assert list(padded_to(2, own, image)) == own


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
