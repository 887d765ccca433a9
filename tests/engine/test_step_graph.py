"""A tape on the CPU stands in for CUDA graphs: see `tests.pretend_cuda.TapeBackend`."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import tiny
from tests.pretend_cuda import TapeBackend, tensors
from vtrain.data.input import no_augmentation
from vtrain.data.loading.batches import Batch
from vtrain.distributed import Rank
from vtrain.engine.ema import EMA
from vtrain.engine.state import TrainState, load_optimizer
from vtrain.engine.step import OptimizerStep
from vtrain.engine.step_graph import WARM_UP, CudaGraphBackend, GraphBackend, GraphedStep
from vtrain.engine.trainer import Intervals, Trainer
from vtrain.errors import DeviceError, DivergedError
from vtrain.optim.groups import set_lr
from vtrain.registry import OPTIMIZERS

IMAGES = torch.randn(46, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(46) % 3


class Loader:
    """Five batches of 8 and one of 6."""

    def __len__(self) -> int:
        return 6

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for indices in torch.arange(46).roll(epoch).split(8)[start:]:
            yield Batch(IMAGES[indices], TARGETS[indices], indices, 0, len(indices))


def soft_in_the_first_epoch(batch: Batch, step: int, epoch: int) -> tuple[Tensor, Tensor]:
    soft = nn.functional.one_hot(batch.targets, 3).float()
    return batch.images, batch.targets if epoch else soft


def on_cuda(batch: Batch, step: int, epoch: int) -> tuple[Tensor, Tensor]:
    return batch.images.cuda(), batch.targets.cuda()


def trainer(
    backend: GraphBackend | None,
    net: nn.Module | None = None,
    name: str = "adamw",
    steps: int = 15,
    accum_steps: int = 1,
    make_input: Callable[[Batch, int, int], tuple[Tensor, Tensor]] = no_augmentation,
    **changes: Any,
) -> Trainer:
    """Return a run whose steps are captured by `backend`; `changes` are those of its step."""
    net = net or tiny("vit_ti", image_size=16, num_classes=3, drop_path_rate=0.3, drop_rate=0.1)
    optimizer = OPTIMIZERS[name](net, lr=1.0)
    state = TrainState(net, optimizer, EMA(net, 0.9))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    step = OptimizerStep(state, net, criterion, nullcontext, grad_clip_norm=0.5)
    step = replace(step, **changes)
    graphed = GraphedStep(step, optimizer, backend or TapeBackend())  # rounds rates to fp32
    return Trainer(
        state=state,
        input=make_input,
        optimize=step if backend is None else graphed,
        schedule=lambda step: 1 / (step + 1),
        lr=0.01,
        evaluate=lambda: {"val/top1": 0.5},
        callbacks=[],
        intervals=Intervals(total_steps=steps, steps_per_epoch=6, eval_every=9, log_every=4),
        accum_steps=accum_steps,
        seed=0,
        rank=Rank(),
    )


def bfloat16(device: str) -> Callable[[], AbstractContextManager[None]]:
    return lambda: torch.autocast(device, torch.bfloat16)


def no_step(*_: object) -> Tensor:
    return torch.zeros(())


def state_of(run: Trainer) -> list[Tensor]:
    assert run.state.ema is not None
    moments = [run.state.optimizer.state[p] for p in run.state.model.parameters()]
    return [
        *run.state.model.state_dict().values(),
        *run.state.ema.weights.values(),
        *tensors(moments),
    ]


def assert_same(one: Trainer, other: Trainer) -> None:
    for a, b in zip(state_of(one), state_of(other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(("accum_steps", "bf16"), [(1, False), (2, False), (1, True)])
def test_replayed_steps_are_the_steps_that_would_have_been_launched(
    name: str, accum_steps: int, bf16: bool
) -> None:
    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3, drop_path_rate=0.3, drop_rate=0.1)
    backend = TapeBackend()
    changes = {"autocast": bfloat16("cpu")} if bf16 else {}
    usual = trainer(None, copy.deepcopy(net), name, 15, accum_steps, **changes)
    recorded = trainer(backend, net, name, 15, accum_steps, **changes)
    for run in (usual, recorded):
        run.fit(Loader())
    assert len(backend.tapes) == 1
    assert backend.replays == 15 - WARM_UP - 2  # the small batches of two epochs
    assert_same(usual, recorded)


def test_a_number_of_the_host_would_be_frozen_and_is_noticed() -> None:
    backend = TapeBackend()
    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3)
    usual, recorded = trainer(None, copy.deepcopy(net)), trainer(backend, net)
    usual.fit(Loader())
    for group in recorded.state.optimizer.param_groups:
        group["lr"] = float(group["lr"])
    recorded.fit(Loader())
    with pytest.raises(AssertionError):
        assert_same(usual, recorded)


def test_another_kind_of_step_is_recorded_in_its_place() -> None:
    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3)
    backend = TapeBackend()
    usual = trainer(None, copy.deepcopy(net), steps=18, make_input=soft_in_the_first_epoch)
    recorded = trainer(backend, net, steps=18, make_input=soft_in_the_first_epoch)
    for run in (usual, recorded):
        run.fit(Loader())
    assert len(backend.tapes) == 2  # soft targets, then classes
    assert_same(usual, recorded)


def test_the_loss_of_a_step_is_not_that_of_a_later_one() -> None:
    run = trainer(TapeBackend())
    batches = [IMAGES[i : i + 8] for i in range(8)]
    losses = [run.optimize(x, TARGETS[:8], 1 / 8, 1) for x in batches]
    assert len({float(loss) for loss in losses}) == len(losses)


def test_a_bad_step_is_skipped_and_named_when_replayed() -> None:
    class Poisoned(Loader):
        def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().batches(epoch, start)):
                factor = float("nan") if number == 4 else 1.0
                yield Batch(batch.images * factor, *list(vars(batch).values())[1:])

    backend = TapeBackend()
    run = trainer(backend, steps=6)
    with pytest.raises(DivergedError, match="not finite at step 5"):
        run.fit(Poisoned())
    assert backend.replays == 2
    assert all(p.isfinite().all() for p in run.state.model.parameters())


def test_a_step_that_waits_is_launched_as_usual_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Waiting(TapeBackend):
        def run_without_sync(self, work: Callable[[], Tensor]) -> Tensor:
            work.func.forward(IMAGES[:2])  # type: ignore[attr-defined] # a part of it
            raise RuntimeError("called a synchronizing CUDA operation\nmore")

    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3, drop_path_rate=0.0)
    usual, refused = trainer(None, copy.deepcopy(net)), trainer(Waiting(), net)
    with caplog.at_level(logging.WARNING):
        for run in (usual, refused):
            run.fit(Loader())
    assert_same(usual, refused)
    (message,) = caplog.messages
    assert message.endswith("launched as usual (called a synchronizing CUDA operation)")
    assert not any(group.get("capturable") for group in refused.state.optimizer.param_groups)


def test_a_recording_that_fails_ends_the_run_in_one_line() -> None:
    class Refusing(TapeBackend):
        def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    run = trainer(Refusing())
    with pytest.raises(DeviceError, match=r"recorded .*capturing.*: set it to false") as caught:
        run.fit(Loader())
    assert "train.cuda_graph" in str(caught.value)
    assert run.state.step == WARM_UP
    assert not any(group.get("capturable") for group in run.state.optimizer.param_groups)


def test_rates_on_the_device_follow_the_schedule_and_are_numbers_again_after_loading() -> None:
    net = tiny("vit_ti")
    optimizer = OPTIMIZERS["adamw"](net, lr=1.0, layer_decay=0.5)
    GraphedStep(no_step, optimizer, TapeBackend())
    rates = [group["lr"] for group in optimizer.param_groups]
    set_lr(optimizer, 0.25)
    assert [float(rate) for rate in rates] == [
        pytest.approx(0.25 * group["lr_scale"]) for group in optimizer.param_groups
    ]
    fresh = OPTIMIZERS["adamw"](net, lr=1.0, layer_decay=0.5)
    load_optimizer(fresh, optimizer.state_dict())
    assert all(type(group["lr"]) is float for group in fresh.param_groups)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_on_cuda_replayed_steps_train_like_launched_ones(compiled: bool, bf16: bool) -> None:
    device = torch.device("cuda", 0)
    runs = []
    for backend in (None, CudaGraphBackend(device)):
        torch.manual_seed(0)
        net = tiny("vit_ti", image_size=16, num_classes=3).to(device)
        changes: dict[str, Any] = {"autocast": bfloat16("cuda")} if bf16 else {}
        if compiled:
            changes["forward"] = torch.compile(net, dynamic=False)
        run = trainer(backend, net, steps=24, make_input=on_cuda, **changes)
        run.fit(Loader())
        runs.append(run)
    tolerance = 5e-2 if bf16 else 1e-4
    for a, b in zip(state_of(runs[0]), state_of(runs[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance / 10)
    assert isinstance(runs[1].optimize, GraphedStep)
    assert runs[1].optimize.can_capture


@pytest.mark.gpu
def test_on_cuda_dropout_differs_between_replays_and_repeats_with_its_seed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 3)).cuda()
    optimizer = torch.optim.AdamW([{"params": list(net.parameters()), "lr_scale": 1.0}], fused=True)
    images, targets = IMAGES[:8].cuda(), TARGETS[:8].cuda()
    set_lr(optimizer, 0.0)

    def step(images: Tensor, targets: Tensor, weight: float, pieces: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = nn.functional.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    graphed = GraphedStep(step, optimizer, CudaGraphBackend(torch.device("cuda", 0)))
    losses = []
    for seed in (0, 1, 2, 3, 4, 5, 4):
        torch.manual_seed(seed)
        losses.append(float(graphed(images, targets, 1.0, 1)))
    assert losses[-1] == losses[4]
    assert losses[4] != losses[5]


@pytest.mark.gpu
def test_on_cuda_a_step_that_waits_falls_back_and_trains(caplog: pytest.LogCaptureFixture) -> None:
    net = tiny("vit_ti", image_size=16, num_classes=3).cuda()
    criterion = nn.CrossEntropyLoss()

    def waiting(outputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = criterion(outputs, targets)
        return loss * (1.0 if float(loss.detach()) > 0 else 2.0)

    backend = CudaGraphBackend(torch.device("cuda", 0))
    run = trainer(backend, net, make_input=on_cuda, criterion=waiting)
    with caplog.at_level(logging.WARNING):
        run.fit(Loader())
    assert run.state.step == 15
    assert "launched as usual" in caplog.text
