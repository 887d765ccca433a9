"""Metrics against loops over images, in pure Python."""

import math

import pytest
import torch

from vtrain.inference.evaluate import means, sums, top_k_hits
from vtrain.inference.outputs import NO_TARGET
from vtrain.report.scores import Scores


@pytest.mark.parametrize("classes", [1, 2, 4, 5, 6, 30])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_hits_are_the_rank_of_the_target_in_a_sorted_list(classes: int, k: int) -> None:
    logits = torch.randn(50, classes)
    targets = torch.randint(classes, (50,))
    hits = top_k_hits(logits, targets, k)
    assert hits.shape == (50, min(k, classes))
    for row, target, hit in zip(logits.tolist(), targets.tolist(), hits.tolist(), strict=True):
        rank = sorted(range(classes), key=lambda c: -row[c]).index(target)
        assert hit == [place == rank for place in range(min(k, classes))]


def test_sums_are_those_of_a_loop_and_leave_out_what_has_no_target() -> None:
    logits, targets = torch.randn(40, 10), torch.randint(10, (40,))
    targets[::3] = NO_TARGET
    images, loss, top1, top5 = sums(logits, targets).tolist()
    expected = [0.0, 0.0, 0.0, 0.0]
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        if target != NO_TARGET:
            rank = sum(other > row[target] for other in row)
            nats = math.log(sum(math.exp(x) for x in row)) - row[target]
            for index, value in enumerate((1, nats, rank == 0, rank < 5)):
                expected[index] += value
    assert [images, top1, top5] == [expected[0], expected[2], expected[3]]
    # 26 terms, each of them rounded a few times in fp32.
    assert loss == pytest.approx(expected[1], rel=30 * 2**-24)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    logits, targets = torch.randint(-3, 4, (30, 6)).float(), torch.randint(6, (30,))
    parts = zip(logits.split(7), targets.split(7), strict=True)
    total = torch.stack([sums(x, y) for x, y in parts]).sum(0)
    assert torch.equal(total[[0, 2, 3]], sums(logits, targets)[[0, 2, 3]])
    assert total[1].item() == pytest.approx(sums(logits, targets)[1].item(), rel=30 * 2**-24)


def test_means_have_the_names_of_the_contract() -> None:
    totals = torch.tensor([4.0, 2.0, 1.0, 3.0], dtype=torch.float64)
    assert means(totals) == {"val/loss": 0.5, "val/top1": 0.25, "val/top5": 0.75}


def test_of_equal_logits_the_first_class_counts_as_in_a_report() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 12, generator=draw).to(torch.bfloat16).mul(4).round().float() / 4
    targets = torch.randint(12, (400,), generator=draw)
    ties = logits.sort(1).values
    assert (ties[:, -1] == ties[:, -2]).sum() > 20
    hits = top_k_hits(logits, targets, 5)
    scores = Scores(logits.numpy(), targets.numpy())
    assert hits[:, 0].tolist() == scores.correct.tolist()
    assert hits.any(1).tolist() == (scores.true_rank < 5).tolist()
    order = (-logits).sort(dim=1, stable=True).indices[:, :5]
    assert torch.equal(hits, order == targets[:, None])


def test_nan_is_never_hit() -> None:
    logits = torch.full((3, 4), float("nan"))
    assert not top_k_hits(logits, torch.arange(3), 4).any()
    infinite = torch.tensor([[0.0, float("inf"), -float("inf")]])
    assert top_k_hits(infinite, torch.tensor([1]), 3).tolist() == [[True, False, False]]
    assert top_k_hits(infinite, torch.tensor([2]), 3).tolist() == [[False, False, True]]
