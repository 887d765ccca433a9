import copy
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch, share_of
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.ema import EMA
from vtrain.engine.state import Metrics, TrainState
from vtrain.engine.step import OptimizerStep
from vtrain.engine.trainer import Intervals, Trainer, count_pieces, loss_weight, non_empty
from vtrain.errors import DivergedError
from vtrain.optim.distillation import Distillation
from vtrain.rng import permutation

IMAGES = torch.randint(256, (22, 3, 4, 4), generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(22) % 3


class Loader:
    """Batches of 8, 8 and 6 of 22 images."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __len__(self) -> int:
        return 3

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for indices in permutation(22, 0, epoch).split(8)[start:]:
            self.seen.append(indices.tolist())
            images = IMAGES[indices].to(torch.uint8)
            yield Batch(images, TARGETS[indices], indices, 0, len(indices))


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.rows: list[Metrics] = []
        self.lrs: list[float] = []

    def on_step_end(self, state: TrainState) -> None:
        self.lrs.append(state.optimizer.param_groups[0]["lr"])

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.events.append(("log", state.step, state.epoch))
        self.rows.append(metrics)

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.events.append(("eval", state.step, state.epoch))

    def on_epoch_end(self, state: TrainState) -> None:
        self.events.append(("epoch", state.step, state.epoch))

    def on_fit_end(self, state: TrainState) -> None:
        self.events.append(("end", state.step, state.epoch))

    def on_fit_failed(self, state: TrainState) -> None:
        self.events.append(("failed", state.step, state.epoch))


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, state: TrainState) -> None:
        if state.step == self.step:
            state.stop_reason = "enough"


def as_floats(batch: Batch, step: int, epoch: int) -> tuple[Tensor, Tensor]:
    return batch.images / 255, batch.targets


def model(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(48, 3))


def trainer(
    net: nn.Module | None = None,
    *callbacks: Callback,
    total_steps: int = 6,
    eval_every: int = 1,
    log_every: int = 2,
    accum_steps: int = 1,
    clip: float | None = None,
    ema: bool = False,
    criterion: nn.Module | None = None,
    teacher: Callable[[Tensor], Tensor] | None = None,
    make_input: Callable[[Batch, int, int], tuple[Tensor, Tensor]] = as_floats,
) -> Trainer:
    net = net or model()
    groups = [{"params": list(net.parameters()), "lr_scale": 1.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    state = TrainState(net, optimizer, EMA(net, 0.9) if ema else None)
    criterion = criterion or nn.CrossEntropyLoss()
    return Trainer(
        state=state,
        input=make_input,
        optimize=OptimizerStep(state, net, criterion, nullcontext, clip, teacher),
        schedule=lambda step: 1 / (step + 1),
        lr=0.1,
        evaluate=lambda: {"val/top1": 0.5},
        callbacks=list(callbacks),
        intervals=Intervals(total_steps, 3, eval_every, log_every),
        accum_steps=accum_steps,
        seed=0,
        rank=Rank(),
    )


def test_a_step_is_sgd_on_the_mean_loss_of_the_batch() -> None:
    net = model()
    expected = copy.deepcopy(net)
    (indices, *_) = permutation(22, 0, 0).split(8)
    loss = nn.functional.cross_entropy(expected(IMAGES[indices] / 255), TARGETS[indices])
    loss.backward()
    recorder = Recorder()
    trainer(net, recorder, total_steps=1).fit(Loader())
    for p, q in zip(net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.1 * q.grad)
    assert recorder.rows[0]["train/loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("pieces", [2, 3, 4, 100])
def test_accumulation_changes_nothing_even_with_uneven_pieces(pieces: int) -> None:
    whole, cut = model(), model()
    trainer(whole, clip=0.5).fit(Loader())
    trainer(cut, clip=0.5, accum_steps=pieces).fit(Loader())
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_teacher_answers_for_each_piece_as_the_model_sees_it() -> None:
    teacher = model(0.5)
    seen: list[int] = []

    def answers(images: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        seen.append(len(images))
        with torch.no_grad():
            return teacher.eval()(images)

    lesson = Distillation(nn.CrossEntropyLoss(), kind="soft", alpha=0.9, tau=2.0)
    whole, cut = model(), model()
    for net, pieces in ((whole, 1), (cut, 3)):
        trainer(net, accum_steps=pieces, criterion=lesson, teacher=answers).fit(Loader())
    assert seen == [8, 8, 6] * 2 + [3, 3, 2, 3, 3, 2, 2, 2, 2] * 2
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    untaught = model()
    trainer(untaught).fit(Loader())
    assert not torch.equal(untaught[2].weight, whole[2].weight)


def test_events_come_in_order_and_count_what_is_complete() -> None:
    recorder = Recorder()
    trainer(None, recorder).fit(Loader())
    assert recorder.events == [
        ("log", 2, 0),
        ("log", 3, 1),
        ("eval", 3, 1),
        ("epoch", 3, 1),
        ("log", 4, 1),
        ("log", 6, 2),
        ("eval", 6, 2),
        ("epoch", 6, 2),
        ("end", 6, 2),
    ]


def test_a_run_may_end_within_an_epoch_and_is_evaluated_there() -> None:
    recorder, loader = Recorder(), Loader()
    trainer(None, recorder, total_steps=4, eval_every=5).fit(loader)
    assert recorder.events[-3:] == [("log", 4, 1), ("eval", 4, 1), ("end", 4, 1)]
    assert len(loader.seen) == 4


def test_the_schedule_sets_the_rate_of_each_step_and_groups_scale_it() -> None:
    recorder = Recorder()
    part = trainer(None, recorder)
    part.state.optimizer.param_groups[0]["lr_scale"] = 0.5
    part.fit(Loader())
    rates = [0.1 / (step + 1) for step in range(6)]
    assert recorder.lrs == pytest.approx([rate / 2 for rate in rates])
    # A row has the rate that the schedule gave its last step, whatever the groups made of it.
    assert [row["train/lr"] for row in recorder.rows] == [rates[step] for step in (1, 2, 3, 5)]


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(stop: int) -> None:
    whole = trainer(model(0.5), ema=True)
    whole.fit(Loader())
    first = trainer(model(0.5), StopAt(stop), ema=True)
    first.fit(Loader())
    saved = copy.deepcopy(first.state.state_dict())
    recorder, second = Recorder(), trainer(model(0.5), ema=True)
    second.callbacks = [recorder]
    second.state.load_state_dict(saved)
    second.fit(Loader())
    for a, b in zip(
        torch.utils._pytree.tree_leaves(whole.state.state_dict()),
        torch.utils._pytree.tree_leaves(second.state.state_dict()),
        strict=True,
    ):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    assert [event for event in recorder.events if event[0] == "eval"] == [
        ("eval", step, step // 3) for step in (3, 6) if step >= stop
    ]


def test_what_a_stopped_run_is_missing_is_noticed() -> None:
    first = trainer(model(0.5), StopAt(2), ema=True)
    first.fit(Loader())
    whole = trainer(model(0.5), ema=True)
    whole.fit(Loader())
    for forgotten in ("optimizer", "ema", "step", "epoch_step"):
        second = trainer(model(0.5), ema=True)
        saved = copy.deepcopy(first.state.state_dict())
        saved[forgotten] = second.state.state_dict()[forgotten]
        second.state.load_state_dict(saved)
        second.fit(Loader())
        same = [
            torch.equal(a, b)
            for a, b in zip(
                torch.utils._pytree.tree_leaves(
                    (whole.state.model.state_dict(), whole.state.ema.state_dict())
                ),
                torch.utils._pytree.tree_leaves(
                    (second.state.model.state_dict(), second.state.ema.state_dict())
                ),
                strict=True,
            )
        ]
        assert not all(same), forgotten


def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    part = trainer(None, log_every=1000, ema=True)
    batch = next(Loader().batches(0))
    waits = []
    for name in ("item", "tolist", "__float__", "__bool__", "__int__", "cpu", "numpy"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *a: object, _o: object = original, _n: str = name) -> object:
            waits.append(_n)
            return _o(self, *a)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, counted)
    part.train_step(batch)
    assert waits == []


def test_a_loss_that_is_not_finite_ends_the_run_with_its_steps() -> None:
    def poisoned(batch: Batch, step: int, _: int) -> tuple[Tensor, Tensor]:
        return batch.images / 255 * (math.nan if step == 3 else 1), batch.targets

    recorder = Recorder()
    part = trainer(None, recorder, make_input=poisoned)
    with pytest.raises(DivergedError, match="not finite at step 4"):
        part.fit(Loader())
    assert recorder.events[-2:] == [("epoch", 3, 1), ("failed", 4, 1)]
    assert all(p.isfinite().all() for p in part.state.model.parameters())


@pytest.mark.parametrize("shares", [(8, 7), (5, 5, 4), (1, 0), (3,)])
def test_the_mean_over_processes_of_weighted_sums_is_the_mean_over_images(
    shares: tuple[int, ...],
) -> None:
    total, losses = sum(shares), torch.rand(sum(shares))
    indices = torch.arange(total)
    means = []
    for share in indices.split(list(shares)):
        batch = Batch(IMAGES[share], TARGETS[share], share, 0, total)
        means.append(losses[share].sum() * loss_weight(batch, len(shares)))
    torch.testing.assert_close(torch.stack(means).mean(), losses.mean())


@pytest.mark.parametrize(("total", "world_size", "asked"), [(27, 2, 4), (5, 2, 4), (1, 2, 4)])
def test_all_processes_cut_into_as_many_pieces(total: int, world_size: int, asked: int) -> None:
    counts = set()
    for rank in range(world_size):
        first, last = share_of(total, rank, world_size)
        share = torch.arange(first, last)
        batch = non_empty(Batch(IMAGES[share % 22], TARGETS[share % 22], share, first, total))
        counts.add(count_pieces(batch, world_size, asked))
        assert len(batch.images) >= count_pieces(batch, world_size, asked)
    assert len(counts) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_the_last_step_spoilt_are_found_by_the_evaluation(value: float) -> None:
    recorder = Recorder()
    spoilt = replace(trainer(None, recorder), evaluate=lambda: {"val/loss": value})
    with pytest.raises(DivergedError, match="val/loss is not finite after step 3") as diverged:
        spoilt.fit(Loader())
    assert diverged.value.step == 4
    assert [kind for kind, *_ in recorder.events if kind in ("eval", "epoch")] == []
