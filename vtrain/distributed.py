"""Many processes as one: the only file that names torch.distributed.

`torchrun` starts the processes and tells each one its place in the environment. With one process
every function here does nothing, so that no caller asks how many there are.
"""

import hashlib
import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtrain.errors import ConfigError, DeviceError, StoppedBySignal, VtrainError, WorkerError

FAILURE_MESSAGE = "vtrain/failure_message"
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets for each process."""


@dataclass(frozen=True)
class Rank:
    """The place of this process among all: `rank` of `world_size`, `local_rank` on its machine."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0


def rank_from_env(env: Mapping[str, str] = os.environ) -> Rank:
    """Read this process's place from the variables that `torchrun` sets.

    Raises:
        ConfigError: Some are missing, no integers, or contradict each other.
    """
    if "WORLD_SIZE" not in env and "RANK" not in env:
        return Rank()
    hint = "start the processes with torchrun --nproc-per-node=N --no-python vtrain fit ..."
    missing = [name for name in VARIABLES if not env.get(name)]
    if missing:
        given = "WORLD_SIZE" if "WORLD_SIZE" in env else "RANK"
        raise ConfigError(f"{given} is set, but not {', '.join(missing)}", "environment", hint)
    try:
        rank, local_rank, world_size = (int(env[n]) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    except ValueError as error:
        raise ConfigError(f"a rank must be a whole number; {error}", "environment", hint) from None
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"RANK ({rank}) must be in 0 .. WORLD_SIZE - 1 ({world_size - 1})", "environment", hint
        )
    if not 0 <= local_rank <= rank:
        raise ConfigError(
            f"LOCAL_RANK ({local_rank}) must be in 0 .. RANK ({rank})", "environment", hint
        )
    return Rank(rank, local_rank, world_size)


def start(device: torch.device, timeout: float = 300) -> Rank:
    """Join the other processes and return the place of this one.

    Args:
        device: Where this process computes; NCCL connects CUDA devices, gloo everything else.
        timeout: Seconds to wait for a peer before giving up.

    Raises:
        ConfigError: The environment contradicts itself.
        DeviceError: There are more processes on this machine than GPUs, or all were given one.
        WorkerError: The processes do not find each other.
    """
    place = rank_from_env()
    if place.world_size == 1:
        return place
    if device.type == "cuda":
        claim_gpu(place)
        if device.index != place.local_rank:
            raise DeviceError(
                f"{device} is one GPU for {place.world_size} processes",
                "train.device",
                "use cuda, of which each process takes its own",
            )
    import torch.distributed as dist

    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            timeout=timedelta(seconds=timeout),
            rank=place.rank,
            world_size=place.world_size,
            device_id=torch.device("cuda", place.local_rank) if device.type == "cuda" else None,
        )
        dist.barrier()
    except RuntimeError as error:  # torch's own classes for a lost network all derive from it
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise WorkerError(
            f"rank {place.rank} of {place.world_size} cannot join the others",
            address,
            "is the port free and every process started? On one machine use torchrun --standalone",
        ) from error
    return place


def claim_gpu(place: Rank) -> None:
    """Make this process's own GPU the current one.

    Raises:
        DeviceError: This machine has fewer GPUs than processes.
    """
    found = torch.cuda.device_count()
    if place.local_rank >= found:
        raise DeviceError(
            f"LOCAL_RANK is {place.local_rank}, but this machine has {found} GPUs",
            "environment",
            f"start torchrun with --nproc-per-node={max(found, 1)} or less",
        )
    torch.cuda.set_device(place.local_rank)


def stop() -> None:
    """Leave the other processes."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def set_timeout(seconds: float) -> None:
    """Give up on a silent peer after `seconds` from now on.

    The first step compiles and warms up; later ones are quick, so a short wait finds a hang sooner.
    """
    if world_size() == 1:
        return
    import torch.distributed as dist

    # Older releases of torch have it under a private name only.
    change = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    change(timedelta(seconds=seconds))


def world_size() -> int:
    """Return the number of processes that have started together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process writes the files and speaks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Return the sum of every process's tensor. Shape: any -> the same."""
    if world_size() == 1:
        return tensor
    import torch.distributed as dist

    total = tensor.clone()
    dist.all_reduce(total, dist.ReduceOp.SUM)
    return total


def all_max(tensor: Tensor) -> Tensor:
    """Return the element-wise maximum over the processes. Shape: any -> the same."""
    if world_size() == 1:
        return tensor
    import torch.distributed as dist

    largest = tensor.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def any_true(value: bool) -> bool:
    """Return whether the value is true in any process."""
    return bool(all_max(torch.tensor(value, dtype=torch.uint8)))


def broadcast(tensor: Tensor) -> Tensor:
    """Return the main process's tensor; every process hands in one of its shape and dtype."""
    if world_size() == 1:
        return tensor
    import torch.distributed as dist

    received = tensor.clone()
    dist.broadcast(received, src=0)
    return received


def broadcast_json(value: Any) -> Any:
    """Return the main process's value, which JSON can hold (nothing is pickled)."""
    if world_size() == 1:
        return value
    text = json.dumps(value).encode() if is_main() else b""
    length = int(broadcast(torch.tensor(len(text))))
    data = torch.tensor(list(text) if is_main() else [0] * length, dtype=torch.uint8)
    return json.loads(bytes(broadcast(data).tolist()))


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an error says that another process is gone or silent: it has the cause."""
    import torch.distributed as dist

    # gloo raises plain RuntimeErrors; the first words are its source files and its own phrases.
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
    by_text = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return isinstance(error, dist.DistError) or by_text


@contextmanager
def propagate_failures() -> Iterator[None]:
    """Let the processes fail together: the main one learns from any other why that one failed.

    Raises:
        WorkerError: Another process is lost; in the main one, with its last words if it had any.
    """
    try:
        yield
    except Exception as error:
        if is_lost_peer(error):
            words = _failure_message()
            hint = None if words else "its own output and the system's log may say why"
            raise WorkerError(words or "another process is lost or silent", hint=hint) from error
        if not is_main() and not isinstance(error, StoppedBySignal):
            text = str(error) if isinstance(error, VtrainError) else repr(error)
            # Only the first failure is the cause; what an empty text is compared with is unset.
            _store().compare_set(
                FAILURE_MESSAGE, "", f"rank {rank()} failed: {text.splitlines()[0]}"
            )
        raise


def _failure_message() -> str | None:
    """Return what the first process that failed left, if this is the main one."""
    with suppress(RuntimeError):  # what holds the words may be lost too
        if is_main() and _store().check([FAILURE_MESSAGE]):
            return str(_store().get(FAILURE_MESSAGE).decode())
    return None


def _store() -> Any:
    """Return the small key-value store through which the processes have found each other."""
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_store()  # torch has no public name for it


def check_same(parts: Mapping[str, Any], error: type[VtrainError] = ConfigError) -> None:
    """Refuse to go on when the processes differ in one of `parts`, each a JSON value.

    Raises:
        VtrainError: Of the given class, on every process, naming the parts and the ranks.
    """
    if world_size() == 1:
        return
    import torch.distributed as dist

    digests = [fingerprint(value) for value in parts.values()]
    mine = torch.tensor(digests, dtype=torch.int64)
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    table = torch.stack(every)  # (rank, part)
    differs = table != table[0]
    if differs.any():
        names = [name for name, bad in zip(parts, differs.any(0).tolist(), strict=True) if bad]
        ranks = [str(number) for number, bad in enumerate(differs.any(1).tolist()) if bad]
        raise error(
            f"the processes differ in {' and '.join(names)}: rank {', '.join(ranks)} from rank 0",
            hint="start every process with the same command, code and data",
        )


def fingerprint(value: Any) -> int:
    """Return 63 bits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def wrap_ddp(model: nn.Module, accum_steps: int = 1) -> nn.Module:
    """Average the gradients of all processes during the backward pass; one process: the model.

    The graph must be the same at every step and use every parameter; buffers stay as they are.
    """
    if world_size() == 1:
        return model
    from torch.nn.parallel import DistributedDataParallel

    # A class token's gradient is a slice of a larger one: torch compares its strides, of axes of
    # length 1 too, with the bucket's and speaks of lost speed, wrongly.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # No model here changes a buffer while it trains; newer releases of torch renamed the flag.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    buffers: dict[str, Any] = {name: False}
    return DistributedDataParallel(
        model,
        # torch fails an assertion (expect_autograd_hooks_) if the first pass is under `no_sync`.
        static_graph=accum_steps == 1,
        gradient_as_bucket_view=True,  # the gradients live in the buckets: no copy, less memory
        find_unused_parameters=False,
        **buffers,
    )


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Hold back the exchange of gradients: all pieces of a batch but the last run under this.

    Under FSDP it does nothing: holding back would keep whole gradients, which do not fit.
    """
    from torch.nn.parallel import DistributedDataParallel

    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    if isinstance(model, DistributedDataParallel):
        return cast(AbstractContextManager[None], model.no_sync())
    return nullcontext()


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """Give each process its part of every parameter (FSDP2); one process: the model.

    Each block, an element of a list called `blocks`, is gathered before its use and freed after it.
    The parameters change: build optimizer and EMA afterwards.
    """
    if world_size() == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for name, blocks in model.named_modules():
        if isinstance(blocks, nn.ModuleList) and name.rpartition(".")[2] == "blocks":
            for block in blocks:
                fully_shard(block, mesh=mesh)
    # By default the root stays whole after a forward pass. After an evaluation, which has no
    # backward pass to free it, training would go on with weights that EMA has swapped back since.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model


def gathered(state: Any, keep: bool = True) -> Any:
    """Return nested state with every sharded tensor made whole, one by one, and moved to the CPU.

    All processes must call it. One with `keep` false gets an empty tensor instead of each whole.
    """
    if world_size() == 1:
        return state

    def whole(tensor: Any) -> Tensor:
        if not is_sharded(tensor):
            return cast(Tensor, tensor)
        full: Tensor = tensor.full_tensor()
        return full.cpu() if keep else full.new_empty(0, device="cpu")

    return _mapped(state, whole)


def sharded_like(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Undo `gathered`: cut whole tensors as those of the same name in `like` are cut."""
    if world_size() == 1:
        return state
    return {name: _cut_as(tensor, like[name]) for name, tensor in state.items()}


def shard_optimizer(optimizer: Optimizer) -> None:
    """Cut the whole tensors that an optimizer has loaded as its parameters are cut."""
    if world_size() == 1:
        return
    for parameter, state in optimizer.state.items():
        for name, tensor in state.items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                state[name] = _cut_as(tensor, parameter)


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is only this process's part of a larger one."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _cut_as(tensor: Tensor, like: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    # src_data_rank=None: every process has read the whole tensor, nothing need be sent.
    whole = tensor.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def _mapped(state: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _mapped(value, change) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_mapped(value, change) for value in state)
    return state
