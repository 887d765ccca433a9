"""Many processes as one: the environment, the collectives, DDP and FSDP2 against one process."""

import copy
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tests.conftest import tiny
from tests.harness import Command, places
from vtrain import distributed
from vtrain.distributed import Rank, parallel, rank_from_env
from vtrain.engine.ema import EMA
from vtrain.errors import ConfigError, DataError, DeviceError, WorkerError
from vtrain.models.base import ImageClassifier
from vtrain.optim.gradients import StepGuard, clip_grad_norm
from vtrain.registry import OPTIMIZERS

Results = dict[str, list[Any]]
CPU = torch.device("cpu")
TORCHRUN = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_torchrun_says_where_a_process_stands() -> None:
    place = rank_from_env(TORCHRUN)
    assert place == Rank(rank=3, local_rank=1, world_size=4)
    assert not place.is_main
    assert rank_from_env({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}).is_main


def test_without_torchrun_there_is_one_process() -> None:
    assert rank_from_env({}) == Rank(rank=0, local_rank=0, world_size=1)
    assert rank_from_env({"MASTER_ADDR": "left over"}).is_main


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_ADDR": None}, "WORLD_SIZE is set, but not MASTER_ADDR"),
        ({"MASTER_PORT": ""}, "WORLD_SIZE is set, but not MASTER_PORT"),
        ({"RANK": None, "LOCAL_RANK": None}, "WORLD_SIZE is set, but not RANK, LOCAL_RANK"),
        ({"WORLD_SIZE": None}, "RANK is set, but not WORLD_SIZE"),
        ({"WORLD_SIZE": "two"}, "must be a whole number.*'two'"),
        ({"RANK": "4"}, r"RANK \(4\) must be in 0 .. WORLD_SIZE - 1 \(3\)"),
        ({"RANK": "-1"}, r"RANK \(-1\) must be in 0 .. WORLD_SIZE - 1 \(3\)"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, r"RANK \(0\) must be in 0 .. WORLD_SIZE - 1 \(-1\)"),
        ({"LOCAL_RANK": "4"}, r"LOCAL_RANK \(4\) must be in 0 .. RANK \(3\)"),
        ({"LOCAL_RANK": "-1"}, r"LOCAL_RANK \(-1\) must be in"),
    ],
)
def test_a_wrong_environment_is_refused_by_the_variables_name(
    change: dict[str, str | None], message: str
) -> None:
    env = {name: value for name, value in {**TORCHRUN, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        rank_from_env(env)


def test_more_processes_than_gpus_are_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="LOCAL_RANK is 2, but this machine has 2 GPUs"):
        distributed.claim_gpu(Rank(rank=2, local_rank=2, world_size=3))


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**TORCHRUN, **place}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    with pytest.raises(DeviceError, match=r"cuda:0 is one GPU for 2 processes .*use cuda"):
        distributed.start(torch.device("cuda", 0))


def test_the_exchange_of_a_compiled_model_is_held_back() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
        with parallel.no_sync(torch.compile(model, backend="eager")):
            assert not model.require_backward_grad_sync
        assert model.require_backward_grad_sync
    finally:
        dist.destroy_process_group()


def test_one_process_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert distributed.start(CPU) == Rank()
    tensor, model = torch.ones(2), nn.Linear(2, 2)
    for collective in (distributed.all_sum, distributed.all_max, distributed.broadcast):
        assert collective(tensor) is tensor
    assert distributed.broadcast_json({"a": [1]}) == {"a": [1]}
    assert parallel.wrap_ddp(model) is model
    assert parallel.shard(model, CPU) is model
    assert torch.equal(parallel.gathered({"x": [tensor]})["x"][0], tensor)
    with parallel.no_sync(model):
        distributed.check_same({"config": 1})
        distributed.barrier()
        distributed.set_timeout(1)
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.stop()


def test_only_this_package_names_torch_distributed() -> None:
    package = Path(distributed.__file__).parent
    naming = {
        file.parent
        for file in package.parent.rglob("*.py")
        if any(
            name in file.read_text() for name in ("torch.distributed", "DistributedDataParallel")
        )
    }
    assert naming == {package}


def test_an_error_of_our_own_is_no_lost_peer() -> None:
    assert not distributed.is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not distributed.is_lost_peer(ValueError("gloo"))


# From here on: tests that start processes. Each job is a function below that runs in every process;
# what it returns is handed back, by rank.


def run_job(
    job: Callable[[], Any], folder: Path, world_size: int = 2, *, ranks: int | None = None
) -> list[Any]:
    """Run `job` in several forks and return what each one returned; none is left behind."""

    def work(place: dict[str, str]) -> None:
        os.environ.update(place)
        warnings.simplefilter("error")
        torch.save(job(), folder / f"{place['RANK']}.pt")
        sys.exit()  # before any command of vtrain

    commands = [
        Command(folder, prepare=partial(work, place)) for place in places(world_size)[:ranks]
    ]
    try:
        ended = [command.wait(250) for command in commands]
    finally:
        for command in commands:
            command.kill()
    assert [end.code for end in ended] == [0] * len(ended), "\n".join(end.err for end in ended)
    files = [folder / f"{rank}.pt" for rank in range(len(ended))]
    return [torch.load(file, weights_only=True) for file in files]


def healthy() -> dict[str, Any]:
    """Run the jobs in which no process is lost, one after the other: starting costs the most."""
    distributed.start(CPU, timeout=60)
    jobs = (collectives, poisoned, trained_with_ddp, trained_with_fsdp, resumed_with_fsdp)
    result = {job.__name__: job() for job in jobs}
    distributed.stop()
    return result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each job of `healthy` returned, by rank."""
    got = run_job(healthy, tmp_path_factory.mktemp("healthy"))
    return {name: [of_rank[name] for of_rank in got] for name in got[0]}


def collectives() -> dict[str, Any]:
    rank = distributed.rank()
    mine = torch.tensor([rank + 1.0, 10.0 - rank], dtype=torch.float64)
    words = {"name": "\u00e9", "numbers": [1, 2.5, None]} if distributed.is_main() else None
    result = {
        "sum": distributed.all_sum(mine),
        "max": distributed.all_max(mine),
        "broadcast": distributed.broadcast(mine),
        "mine": mine,
        "json": distributed.broadcast_json(words),
        "errors": [],
    }
    distributed.check_same({"config": {"lr": 0.1}, "data": [1, 2]})
    for parts, kind in (
        ({"config": {"lr": rank}, "data": [1, 2]}, ConfigError),
        ({"class names": ["a"], "images": 10 + (rank == 1), "sizes": rank}, DataError),
    ):
        try:
            distributed.check_same(parts, kind)
        except kind as error:
            result["errors"].append(str(error))
    distributed.barrier()
    return result


@pytest.mark.dist
def test_every_process_gets_sum_maximum_and_the_main_ones_values(results: Results) -> None:
    for rank, got in enumerate(results["collectives"]):
        assert got["sum"].tolist() == [3.0, 19.0]
        assert got["max"].tolist() == [2.0, 10.0]
        assert got["broadcast"].tolist() == [1.0, 10.0]
        assert got["mine"].tolist() == [rank + 1.0, 10.0 - rank]  # its own was not changed
        assert got["json"] == {"name": "\u00e9", "numbers": [1, 2.5, None]}


@pytest.mark.dist
def test_processes_that_differ_are_refused_on_every_one_by_part_and_rank(results: Results) -> None:
    for got in results["collectives"]:
        config, data = got["errors"]
        assert config.startswith("the processes differ in config: rank 1 from rank 0")
        assert data.startswith("the processes differ in images and sizes: rank 1 from rank 0")


STEPS, TOTALS = 20, (7, 7, 7, 5)  # the last batch of each "epoch" of 4 is smaller; none is even
SKETCH = {"drop_path_rate": 0.0}


def batches(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The global batches, with soft targets, as mixup gives them."""
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        n = TOTALS[step % len(TOTALS)]
        images = torch.randn(n, 3, 32, 32, generator=generator)
        yield images, torch.rand(n, 10, generator=generator).softmax(1)


def train(
    model: ImageClassifier,
    forward: nn.Module,
    optimizer: torch.optim.Optimizer,
    accum_steps: int = 1,
    steps: int = STEPS,
) -> EMA:
    """Train on this process's share of each batch, as the trainer does, with clipping and EMA."""
    ema, guard = EMA(model, 0.9), StepGuard(optimizer)
    rank, world_size = distributed.rank(), distributed.world_size()
    for step, (images, targets) in enumerate(batches(steps)):
        share = slice(len(images) * rank // world_size, len(images) * (rank + 1) // world_size)
        pieces = min(accum_steps, len(images) // world_size)
        chunks = list(zip(images[share].chunk(pieces), targets[share].chunk(pieces), strict=True))
        optimizer.zero_grad()
        for number, (x, y) in enumerate(chunks, start=1):
            with ExitStack() as stack:
                if number < len(chunks):
                    stack.enter_context(parallel.no_sync(forward))
                loss = F.cross_entropy(forward(x), y) * (len(x) * world_size / len(images))
                loss.backward()
        guard.set_step(step)
        guard.step(clip_grad_norm(model.parameters(), 0.5))
        ema.update(model, step + 1)
        if step == steps // 2:  # an evaluation of the average must leave training as it was
            model.eval()
            with ema.swapped_into(model), torch.no_grad():
                forward(images)
            model.train()
    guard.check()
    return ema


def trained_alone(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return weights and average of one process on the whole batches."""
    model = tiny(name, **SKETCH)
    ema = train(model, model, OPTIMIZERS["adamw"](model, lr=1e-3))
    return model.state_dict(), ema.weights


def trained_with_ddp() -> dict[str, Any]:
    result = {}
    for name in ("vit_ti", "swin_t"):
        for accum_steps in (1, 3):
            model = tiny(name, **SKETCH)
            forward = parallel.wrap_ddp(model, accum_steps)
            ema = train(model, forward, OPTIMIZERS["adamw"](model, lr=1e-3), accum_steps)
            result[f"{name} {accum_steps}"] = (model.state_dict(), ema.weights)
    return result


@pytest.mark.dist
def test_two_ddp_processes_give_the_weights_of_one(results: Results) -> None:
    got = results["trained_with_ddp"]
    for name in ("vit_ti", "swin_t"):
        alone = trained_alone(name)
        for rank in range(2):
            for accum_steps in (1, 3):
                assert_same_training(got[rank][f"{name} {accum_steps}"], alone)


def trained_with_fsdp() -> dict[str, Any]:
    result = {}
    for accum_steps in (1, 2):
        model = tiny("vit_ti", **SKETCH)
        parallel.shard(model, CPU)
        optimizer = OPTIMIZERS["adamw"](model, lr=1e-3)
        ema = train(model, model, optimizer, accum_steps)
        assert all(isinstance(p, DTensor) for p in model.parameters())
        weights = parallel.gathered(model.state_dict())
        result[str(accum_steps)] = (weights, parallel.gathered(ema.weights))
    return result


@pytest.mark.dist
def test_two_fsdp_processes_give_the_weights_of_one(results: Results) -> None:
    got = results["trained_with_fsdp"]
    alone = trained_alone("vit_ti")
    for rank in range(2):
        for accum_steps in ("1", "2"):
            assert_same_training(got[rank][accum_steps], alone)


def resumed_with_fsdp() -> dict[str, Any]:
    """Train twice as long at once, and again in halves with everything saved whole in between."""
    result = {}
    for name in OPTIMIZERS.names():
        model = tiny("vit_ti", **SKETCH)
        parallel.shard(model, CPU)
        optimizer = OPTIMIZERS[name](model, lr=1e-3)
        ema = train(model, model, optimizer, steps=3)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        saved = copy.deepcopy(parallel.gathered({**state, "ema": ema.weights}))
        train(model, model, optimizer, steps=3)
        other = tiny("vit_ti", **SKETCH)
        nn.init.zeros_(other.head.weight)
        parallel.shard(other, CPU)
        again = OPTIMIZERS[name](other, lr=1e-3)
        other.load_state_dict(parallel.sharded_like(saved["model"], other.state_dict()))
        again.load_state_dict(saved["optimizer"])
        parallel.shard_optimizer(again)
        restored = EMA(other, 0.9)
        restored.load_state_dict({"weights": parallel.sharded_like(saved["ema"], restored.weights)})
        train(other, other, again, steps=3)
        result[name] = [parallel.gathered(m.state_dict()) for m in (model, other)]
    return result


@pytest.mark.dist
def test_a_sharded_run_goes_on_from_whole_tensors_bit_for_bit(results: Results) -> None:
    got = results["resumed_with_fsdp"]
    assert set(got[0]) == set(OPTIMIZERS.names())
    for name, (whole, halves) in got[0].items():
        for key in whole:
            assert torch.equal(whole[key], halves[key]), (name, key)


def poisoned() -> dict[str, Any]:
    """One process alone gets a loss that is not a number."""
    rank = distributed.rank()
    model = tiny("vit_ti", **SKETCH)
    forward = parallel.wrap_ddp(model)
    guard = StepGuard(OPTIMIZERS["adamw"](model, lr=1e-3))
    for step in range(4):
        model.zero_grad()
        factor = float("nan") if (step, rank) == (2, 1) else 1.0
        (forward(torch.randn(2, 3, 32, 32)).sum() * factor).backward()
        guard.set_step(step)
        guard.step(clip_grad_norm(model.parameters(), 1.0))
    return {"first_bad": guard.first_bad, "weights": model.state_dict()}


@pytest.mark.dist
def test_a_loss_that_is_no_number_on_one_rank_is_seen_by_all_at_the_same_step(
    results: Results,
) -> None:
    for got in results["poisoned"]:
        assert got["first_bad"] == 2
        assert all(weight.isfinite().all() for weight in got["weights"].values())


def left_alone() -> dict[str, Any]:
    place = distributed.start(CPU, timeout=60)
    if not place.is_main:
        return {}
    time.sleep(1)
    try:
        distributed.all_sum(torch.ones(1))
    except RuntimeError as error:
        return {"lost": distributed.is_lost_peer(error)}
    finally:
        distributed.stop()
    return {"lost": None}


@pytest.mark.dist
def test_a_process_that_ends_early_is_a_lost_peer_to_the_others(tmp_path: Path) -> None:
    assert run_job(left_alone, tmp_path)[0] == {"lost": True}


def kept_waiting() -> dict[str, Any]:
    place = distributed.start(CPU, timeout=60)
    distributed.set_timeout(2)
    started = time.monotonic()
    if not place.is_main:
        time.sleep(10)
        return {}
    try:
        distributed.all_sum(torch.ones(1))
    except RuntimeError as error:
        return {"lost": distributed.is_lost_peer(error), "seconds": time.monotonic() - started}
    finally:
        distributed.stop()
    return {"lost": None}


@pytest.mark.dist
def test_a_silent_process_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    waited = run_job(kept_waiting, tmp_path)[0]
    assert waited["lost"]
    assert 1 < waited["seconds"] < 8


def nobody_else() -> str:
    try:
        distributed.start(CPU, timeout=2)
    except WorkerError as error:
        return str(error)
    return ""


@pytest.mark.dist
def test_a_process_that_finds_no_other_says_so(tmp_path: Path) -> None:
    (said,) = run_job(nobody_else, tmp_path, world_size=2, ranks=1)
    assert said.startswith("rank 0 of 2 cannot join the others (127.0.0.1:")


def port_in_use() -> str:
    with closing(socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"])))):
        return nobody_else()


@pytest.mark.dist
def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    (said,) = run_job(port_in_use, tmp_path, world_size=2, ranks=1)
    assert "torchrun --standalone" in said


def assert_same_training(
    got: tuple[dict[str, Tensor], dict[str, Tensor]],
    alone: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    for ours, theirs in zip(got, alone, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-5)
