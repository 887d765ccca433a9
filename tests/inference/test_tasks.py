"""What a model is asked: one class or several labels, and how the answers are judged."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints import small_checkpoint
from vtrain.data.loading.batches import Batch
from vtrain.inference.evaluate import evaluate
from vtrain.inference.outputs import NO_TARGET
from vtrain.inference.tasks import MultiLabel, SingleLabel, task_for, task_of


class Table(nn.Module):
    """Returns row `images[i, 0, 0, 0]` of a table of logits."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, images: Tensor) -> Tensor:
        return self.table[images[:, 0, 0, 0].long()]


def batches(targets: Tensor, numbers: Tensor, size: int) -> list[Batch]:
    images = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
    parts = zip(images.split(size), targets.split(size), numbers.split(size), strict=True)
    return [Batch(i, t, n, 0, len(n)) for i, t, n in parts]


def judged(
    task: MultiLabel, table: Tensor, parts: list[Batch], all_sum: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    tally = task.tally(len(table), torch.device("cpu"))
    return evaluate(Table(table), parts, lambda x: x, nullcontext, all_sum, tally=tally)


def example() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(60, 4, generator=draw)
    return table, (table + torch.randn(60, 4, generator=draw) > 0.5).float()


def test_the_task_follows_from_the_labels_and_from_the_checkpoint() -> None:
    assert isinstance(task_for(torch.tensor([0, 1]), 2), SingleLabel)
    task = task_for(torch.eye(3), 3)
    assert isinstance(task, MultiLabel)
    assert (task.thresholds, task.fits) == ((0.5,) * 3, True)
    assert isinstance(task_of(small_checkpoint()), SingleLabel)
    stored = task_of(small_checkpoint(thresholds=(0.25, 0.5)))
    assert isinstance(stored, MultiLabel)
    assert (stored.thresholds, stored.fits) == ((0.25, 0.5), False)


def test_what_decides_comes_first() -> None:
    assert (SingleLabel.metrics[0], MultiLabel.metrics[0]) == ("val/top1", "val/map")


def test_training_fits_thresholds_and_evaluation_keeps_them() -> None:
    table, targets = example()
    parts = batches(targets, torch.arange(60), 7)
    training = MultiLabel((0.5,) * 4, fits=True)
    found = judged(training, table, parts, lambda t: t)
    assert training.thresholds != (0.5,) * 4
    assert found["val/f1"] > judged(MultiLabel((0.5,) * 4), table, parts, lambda t: t)["val/f1"]
    stored = MultiLabel(training.thresholds)
    assert judged(stored, table, parts, lambda t: t) == found
    assert found.keys() == set(MultiLabel.metrics)
    loss = nn.functional.binary_cross_entropy_with_logits(table, targets)
    assert found["val/loss"] == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("processes", [2, 3, 64])
def test_figures_are_the_same_in_any_number_of_processes(processes: int) -> None:
    table, targets = example()
    parts = batches(targets, torch.arange(60), 60)
    whole = judged(MultiLabel((0.5,) * 4), table, parts, lambda t: t)
    shares: list[Tensor] = []

    def keep(rows: Tensor) -> Tensor:
        shares.append(rows)
        return rows

    nothing = torch.full((1,), NO_TARGET)
    padding = Batch(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), nothing, nothing, 0, 1)
    for rank in range(processes):
        own = torch.arange(60)[rank::processes]
        if len(own):
            parts = [*batches(targets[own], own, 7), padding]
            judged(MultiLabel((0.5,) * 4), table, parts, keep)
    # A process of which no image is knows as much as the others.
    together = torch.stack(shares).sum(0)
    assert judged(MultiLabel((0.5,) * 4), table, [padding], lambda _: together) == whole


def test_images_that_cannot_be_read_are_left_out() -> None:
    table, targets = example()
    kept = torch.tensor([i for i in range(60) if i % 3])
    found = judged(MultiLabel((0.5,) * 4), table, batches(targets[kept], kept, 9), lambda t: t)
    parts = batches(targets[kept], torch.arange(40), 9)
    assert found == judged(MultiLabel((0.5,) * 4), table[kept], parts, lambda t: t)


def test_of_one_label_an_image_the_ranking_is_that_of_the_classes() -> None:
    """Softmax is monotone within a row, so that one class alone is ranked as in single-label."""
    draw = torch.Generator().manual_seed(3)
    logits, targets = torch.randn(50, 5, generator=draw), torch.randint(5, (50,), generator=draw)
    single, several = SingleLabel(), MultiLabel((0.5,) * 5)
    orders = [task.probabilities(logits).argsort(1) for task in (single, several)]
    assert torch.equal(*orders)
    # At the threshold that names one class alone, an exact match is a hit.
    top = logits.topk(2).values
    shifted = logits - top.mean(1, keepdim=True)
    one_hot = nn.functional.one_hot(targets, 5).float()
    assert torch.equal(several.is_right(shifted, one_hot), single.is_right(logits, targets))


def test_the_mean_of_probabilities_is_that_of_sigmoids() -> None:
    logits = [torch.randn(6, 3) for _ in range(4)]
    mean = torch.stack([one.double().sigmoid() for one in logits]).mean(0)
    found = MultiLabel((0.5,) * 3).mean_of(logits)
    torch.testing.assert_close(found.double().sigmoid(), mean, rtol=1e-6, atol=1e-7)
    sure = MultiLabel((0.5,)).mean_of([torch.tensor([[200.0]]), torch.tensor([[300.0]])])
    assert sure.isfinite().all()
