"""Many processes as one: the only package that names torch.distributed.

`torchrun` starts the processes and tells each one its rank in the environment. With one process
every function here does nothing, so that no caller asks how many there are. Here: start and stop,
exchange values, fail together; `parallel` trains one model in all of them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vtrain.errors import ConfigError, DeviceError, StoppedBySignal, VtrainError, WorkerError

FAILURE_MESSAGE = "vtrain/failure_message"
"""The key under which a process that fails leaves its message in the common store."""
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` sets for each process."""


@dataclass(frozen=True)
class Rank:
    """Which of all processes this is: `rank` of `world_size`, and `local_rank` on its machine."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0


def rank_from_env(env: Mapping[str, str] = os.environ) -> Rank:
    """Read this process's rank from the variables that `torchrun` sets.

    Raises:
        ConfigError: Some are missing, no integers, or contradict each other.
    """
    if "WORLD_SIZE" not in env and "RANK" not in env:
        return Rank()
    missing = [name for name in VARIABLES if not env.get(name)]
    if missing:
        given = "WORLD_SIZE" if "WORLD_SIZE" in env else "RANK"
        raise _wrong_environment(f"{given} is set, but not {', '.join(missing)}")
    try:
        rank, local_rank, world_size = (int(env[n]) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    except ValueError as error:
        raise _wrong_environment(f"a rank must be a whole number; {error}") from None
    if not 0 <= rank < world_size:
        raise _wrong_environment(f"RANK ({rank}) must be in 0 .. WORLD_SIZE - 1 ({world_size - 1})")
    if not 0 <= local_rank <= rank:
        raise _wrong_environment(f"LOCAL_RANK ({local_rank}) must be in 0 .. RANK ({rank})")
    return Rank(rank, local_rank, world_size)


def _wrong_environment(what: str) -> ConfigError:
    hint = "start the processes with torchrun --nproc-per-node=N --no-python vtrain fit CONFIG"
    return ConfigError(what, "environment", hint)


def start(device: torch.device, timeout: float = 300) -> Rank:
    """Join the other processes and return the rank of this one.

    Args:
        device: Where this process computes; NCCL connects CUDA devices, gloo everything else.
        timeout: Seconds to wait for a peer before giving up.

    Raises:
        ConfigError: The environment contradicts itself.
        DeviceError: There are more processes on this machine than GPUs, or all were given one.
        WorkerError: The processes do not find each other.
    """
    own = rank_from_env()
    if own.world_size == 1:
        return own
    if device.type == "cuda":
        claim_gpu(own)  # before the group is made: NCCL ties each rank to its current device
        if device.index != own.local_rank:
            what = f"{device} is one GPU for {own.world_size} processes"
            hint = "use cuda, of which each process takes its own"
            raise DeviceError(what, "train.device", hint)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            timeout=timedelta(seconds=timeout),
            rank=own.rank,
            world_size=own.world_size,
            device_id=torch.device("cuda", own.local_rank) if device.type == "cuda" else None,
        )
        dist.barrier()  # all are here: a wrong address shows now, and not in the first step
    except RuntimeError as error:  # torch's own classes for a lost network all derive from it
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        what = f"rank {own.rank} of {own.world_size} cannot join the others"
        hint = (
            "is the port free and every process started? On one machine use torchrun --standalone"
        )
        raise WorkerError(what, address, hint) from error
    return own


def claim_gpu(own: Rank) -> None:
    """Make this process's own GPU the current one.

    Raises:
        DeviceError: This machine has fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count()
    if own.local_rank >= gpus:
        what = f"LOCAL_RANK is {own.local_rank}, but this machine has {gpus} GPUs"
        hint = f"start torchrun with --nproc-per-node={max(gpus, 1)} or less"
        raise DeviceError(what, "environment", hint)
    torch.cuda.set_device(own.local_rank)


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def set_timeout(seconds: float) -> None:
    """Give up on a silent peer after `seconds` from now on.

    The first step compiles and warms up; later ones are quick, so a short wait finds a hang sooner.
    """
    if world_size() == 1:
        return
    # Older releases of torch have it under a private name only.
    change = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    change(timedelta(seconds=seconds))


def world_size() -> int:
    """Return the number of processes that have started together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process writes the files and speaks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def all_sum(tensor: Tensor) -> Tensor:
    """Return the sum of every process's tensor. Shape: any -> the same."""
    return _reduced(tensor, dist.ReduceOp.SUM)


def all_max(tensor: Tensor) -> Tensor:
    """Return the element-wise maximum over the processes. Shape: any -> the same."""
    return _reduced(tensor, dist.ReduceOp.MAX)


def _reduced(tensor: Tensor, op: Any) -> Tensor:
    if world_size() == 1:
        return tensor
    result = tensor.clone()
    dist.all_reduce(result, op)
    return result


def any_true(value: bool) -> bool:
    """Return whether the value is true in any process."""
    return bool(all_max(torch.tensor(value, dtype=torch.uint8)))


def broadcast(tensor: Tensor) -> Tensor:
    """Return the main process's tensor; every process hands in one of its shape and dtype."""
    if world_size() == 1:
        return tensor
    received = tensor.clone()
    dist.broadcast(received, src=0)
    return received


def broadcast_json(value: Any) -> Any:
    """Return the main process's value, which JSON can hold (nothing is pickled)."""
    if world_size() == 1:
        return value
    text = json.dumps(value).encode() if is_main() else b""
    # The length first: a broadcast needs a tensor of the same size in every process.
    length = int(broadcast(torch.tensor(len(text))))
    data = torch.tensor(list(text) if is_main() else [0] * length, dtype=torch.uint8)
    return json.loads(bytes(broadcast(data).tolist()))


def check_same(parts: Mapping[str, Any], error: type[VtrainError] = ConfigError) -> None:
    """Refuse to go on when the processes differ in one of `parts`, each a JSON value.

    Raises:
        VtrainError: Of the given class, on every process, naming the parts and the ranks.
    """
    if world_size() == 1:
        return
    digests = [fingerprint(value) for value in parts.values()]
    mine = torch.tensor(digests, dtype=torch.int64)
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    # Every process has the same table, so all raise or none does: nobody waits for one that ended.
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
    # Its first 8 bytes without the last bit: what an int64 tensor holds.
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an error says that another process is gone or silent: it has the cause."""
    # gloo raises plain RuntimeErrors; the first words are its source files and its own phrases.
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")
    by_text = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return isinstance(error, dist.DistError) or by_text


@contextmanager
def propagate_failures() -> Iterator[None]:
    """Let the processes fail together: the main one learns from any other why that one failed.

    Raises:
        WorkerError: Another process is lost; in the main one, with its message if it left one.
    """
    try:
        yield
    except StoppedBySignal:
        raise
    except Exception as error:
        if is_lost_peer(error):
            message = _failure_message()
            hint = None if message else "its own output and the system's log may say why"
            raise WorkerError(message or "another process is lost or silent", hint=hint) from error
        _leave_failure_message(error)
        raise


def _leave_failure_message(error: Exception) -> None:
    """Tell the main process why this one fails; it sees only that the connection is lost."""
    if is_main():
        return
    text = str(error) if isinstance(error, VtrainError) else repr(error)
    message = f"rank {rank()} failed: {text.splitlines()[0]}"
    # Only the first failure is the cause; what an empty text is compared with is unset.
    _store().compare_set(FAILURE_MESSAGE, "", message)


def _failure_message() -> str | None:
    """Return what the first process that failed left, if this is the main one."""
    with suppress(RuntimeError):  # what holds the message may be lost too
        if is_main() and _store().check([FAILURE_MESSAGE]):
            return str(_store().get(FAILURE_MESSAGE).decode())
    return None


def _store() -> Any:
    """Return the small key-value store through which the processes have found each other."""
    return dist.distributed_c10d._get_default_store()  # torch has no public name for it
