"""A tape on the CPU stands in for CUDA graphs: it records operations on memory, with numbers."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.conftest import tiny
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.mixing import Mixing
from vtrain.data.augment.policies import AugMix, AutoAugment, ThreeAugment, TimmRandAugment
from vtrain.data.augment.recordable import RecordableInput
from vtrain.data.loading.loader import Batch
from vtrain.engine.ema import EMA
from vtrain.engine.state import TrainState, load_optimizer
from vtrain.engine.step_graph import WARM_UP, CudaRecorder, StepGraph
from vtrain.engine.trainer import Trainer
from vtrain.errors import DeviceError, DivergedError
from vtrain.optim.groups import set_lr
from vtrain.registry import OPTIMIZERS

IMAGES = torch.randn(46, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(46) % 3


def tensors(*trees: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Records operations as a CUDA graph does: the memory and the numbers they are given.

    What happens while it records is undone at the end, as nothing runs while a graph is captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.born: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in tensors(args, kwargs):
            place = tensor.untyped_storage().data_ptr()
            if place not in self.born and place not in self.before:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self.before[place] = (whole, whole.clone())
        result = func(*args, **kwargs)
        for tensor in tensors(result):
            place = tensor.untyped_storage().data_ptr()
            if place not in self.before:
                self.born[place] = tensor  # kept alive, so that the address stays its own
        self.calls.append((func, args, kwargs, tensors(result)))
        return result

    def undo(self) -> None:
        for tensor, value in self.before.values():
            tensor.copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results in self.calls:
            for old, new in zip(results, tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.replays = 0

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def rehearse(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        tape = Tape()
        with torch.random.fork_rng(), tape:
            result = work()
        tape.undo()
        self.tapes.append(tape)

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return result, replay


class Loader:
    """Five batches of 8 and one of 6."""

    def __len__(self) -> int:
        return 6

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for indices in torch.arange(46).roll(epoch).split(8)[start:]:
            yield Batch(IMAGES[indices], TARGETS[indices], indices, 0, len(indices))


def unmixed(images: Tensor, targets: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return images, targets


def soft_in_the_first_epoch(
    images: Tensor, targets: Tensor, start: int, step: int, epoch: int
) -> tuple[Tensor, Tensor]:
    return images, targets if epoch else nn.functional.one_hot(targets, 3).float()


def trainer(
    recorder: TapeRecorder | None,
    net: nn.Module | None = None,
    name: str = "adamw",
    steps: int = 15,
    accum_steps: int = 1,
    mixing: Callable[..., tuple[Tensor, Tensor]] = unmixed,
    bf16: bool = False,
) -> Trainer:
    net = net or tiny("vit_ti", image_size=16, num_classes=3, drop_path_rate=0.3, drop_rate=0.1)
    optimizer = OPTIMIZERS[name](net, lr=1.0)
    graph = StepGraph(optimizer, recorder or TapeRecorder())  # in any case: it rounds rates to fp32
    return Trainer(
        state=TrainState(net, optimizer, EMA(net, 0.9)),
        forward=net,
        augment=lambda images, _indices, _epoch: images,
        mixing=mixing,
        criterion=nn.CrossEntropyLoss(label_smoothing=0.1),
        schedule=lambda step: 1 / (step + 1),
        evaluate=lambda: {"val/top1": 0.5},
        autocast=(lambda: torch.autocast("cpu", torch.bfloat16)) if bf16 else nullcontext,
        callbacks=[],
        lr=0.01,
        total_steps=steps,
        steps_per_epoch=6,
        eval_every=9,
        log_every=4,
        accum_steps=accum_steps,
        grad_clip_norm=0.5,
        seed=0,
        rank=0,
        world_size=1,
        graph=None if recorder is None else graph,
    )


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
    recorder = TapeRecorder()
    usual = trainer(None, copy.deepcopy(net), name, 15, accum_steps, bf16=bf16)
    recorded = trainer(recorder, net, name, 15, accum_steps, bf16=bf16)
    for run in (usual, recorded):
        run.fit(Loader())
    assert len(recorder.tapes) == 1
    assert recorder.replays == 15 - WARM_UP - 2  # the small batches of two epochs
    assert_same(usual, recorded)


def test_a_number_of_the_host_would_be_frozen_and_is_noticed() -> None:
    recorder = TapeRecorder()
    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3)
    usual, recorded = trainer(None, copy.deepcopy(net)), trainer(recorder, net)
    usual.fit(Loader())
    for group in recorded.state.optimizer.param_groups:
        group["lr"] = float(group["lr"])
    recorded.fit(Loader())
    with pytest.raises(AssertionError):
        assert_same(usual, recorded)


def test_another_kind_of_step_is_recorded_in_its_place() -> None:
    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3)
    recorder = TapeRecorder()
    usual = trainer(None, copy.deepcopy(net), steps=18, mixing=soft_in_the_first_epoch)
    recorded = trainer(recorder, net, steps=18, mixing=soft_in_the_first_epoch)
    for run in (usual, recorded):
        run.fit(Loader())
    assert len(recorder.tapes) == 2  # soft targets, then classes
    assert_same(usual, recorded)


@pytest.mark.parametrize(
    "policy", [AutoAugment(dataset="cifar10"), TimmRandAugment(), AugMix(), ThreeAugment(), None]
)
def test_a_recording_augments_each_batch_by_what_was_drawn_for_it(policy: Any) -> None:
    class Photographs(Loader):
        def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            for batch in super().batches(epoch, start):
                images = batch.images.mul(40).add(128).clamp(0, 255).to(torch.uint8)
                yield Batch(images, *list(vars(batch).values())[1:])

    torch.manual_seed(0)
    net = tiny("vit_ti", image_size=16, num_classes=3, drop_path_rate=0.3)
    augment = Augment(
        *(16, (0.5,) * 3, (0.2,) * 3, 0),
        policy=policy,
        brightness=0.4,
        hue=0.1,
        grey=0.2,
        erasing=0.5,
        erasing_value="pixel",
    )
    mixing = Mixing(3, 0, mixup=0.8, cutmix=1.0, mix_probability=0.8)
    recorder = TapeRecorder()
    runs = trainer(None, copy.deepcopy(net)), trainer(recorder, net)
    for run in runs:
        run.augment, run.mixing = augment, mixing
        run.recordable = RecordableInput(augment, mixing)
        run.fit(Photographs())
    assert recorder.replays == 15 - WARM_UP - 2
    assert_same(*runs)


def test_the_loss_of_a_step_is_not_that_of_a_later_one() -> None:
    run = trainer(TapeRecorder())
    assert run.graph is not None
    batches = [IMAGES[i : i + 8] for i in range(8)]
    losses = [run.graph(run.optimize, (x, TARGETS[:8]), 1 / 8, 1) for x in batches]
    assert len({float(loss) for loss in losses}) == len(losses)


def test_a_bad_step_is_skipped_and_named_when_replayed() -> None:
    class Poisoned(Loader):
        def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            for number, batch in enumerate(super().batches(epoch, start)):
                factor = float("nan") if number == 4 else 1.0
                yield Batch(batch.images * factor, *list(vars(batch).values())[1:])

    recorder = TapeRecorder()
    run = trainer(recorder, steps=6)
    with pytest.raises(DivergedError, match="not finite at step 5"):
        run.fit(Poisoned())
    assert recorder.replays == 2
    assert all(p.isfinite().all() for p in run.state.model.parameters())


def test_a_step_that_waits_is_launched_as_usual_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Waiting(TapeRecorder):
        def rehearse(self, work: Callable[[], Tensor]) -> Tensor:
            work.func.__self__.forward(IMAGES[:2])  # type: ignore[attr-defined] # a part of it
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
    class Refusing(TapeRecorder):
        def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
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
    StepGraph(optimizer, TapeRecorder())
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
    for recorder in (None, CudaRecorder(device)):
        torch.manual_seed(0)
        net = tiny("vit_ti", image_size=16, num_classes=3).to(device)
        run = trainer(recorder, net, steps=24)  # type: ignore[arg-type] # the real one
        run.augment = lambda images, _indices, _epoch: images.cuda()
        run.mixing = lambda images, targets, *_: (images, targets.cuda())
        if bf16:
            run.autocast = lambda: torch.autocast("cuda", torch.bfloat16)
        if compiled:
            run.forward = torch.compile(net, dynamic=False)
        run.fit(Loader())
        runs.append(run)
    tolerance = 5e-2 if bf16 else 1e-4
    for a, b in zip(state_of(runs[0]), state_of(runs[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance / 10)
    assert runs[1].graph is not None
    assert not runs[1].graph.is_off


@pytest.mark.gpu
def test_on_cuda_dropout_differs_between_replays_and_repeats_with_its_seed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 3)).cuda()
    optimizer = torch.optim.AdamW([{"params": list(net.parameters()), "lr_scale": 1.0}], fused=True)
    graph = StepGraph(optimizer, CudaRecorder(torch.device("cuda", 0)))
    images, targets = IMAGES[:8].cuda(), TARGETS[:8].cuda()
    set_lr(optimizer, 0.0)

    def step(images: Tensor, targets: Tensor, weight: float, count: int) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: Tensor = nn.functional.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses = []
    for seed in (0, 1, 2, 3, 4, 5, 4):
        torch.manual_seed(seed)
        losses.append(float(graph(step, (images, targets), 1.0, 1)))
    assert losses[-1] == losses[4]
    assert losses[4] != losses[5]


@pytest.mark.gpu
def test_on_cuda_a_step_that_waits_falls_back_and_trains(caplog: pytest.LogCaptureFixture) -> None:
    net = tiny("vit_ti", image_size=16, num_classes=3).cuda()
    run = trainer(CudaRecorder(torch.device("cuda", 0)), net)  # type: ignore[arg-type]
    run.augment = lambda images, _indices, _epoch: images.cuda()
    run.mixing = lambda images, targets, *_: (images, targets.cuda())
    criterion = nn.CrossEntropyLoss()

    def waiting(outputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = criterion(outputs, targets)
        return loss * (1.0 if float(loss.detach()) > 0 else 2.0)

    run.criterion = waiting
    with caplog.at_level(logging.WARNING):
        run.fit(Loader())
    assert run.state.step == 15
    assert "launched as usual" in caplog.text
