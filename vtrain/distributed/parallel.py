"""Train one model in many processes: copies of it (DDP), or a part of it in each (FSDP2)."""

import inspect
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from vtrain.distributed import world_size

# What is imported inside functions is large, and only processes that share a model need it.


def wrap_ddp(model: nn.Module, accum_steps: int = 1) -> nn.Module:
    """Average the gradients of all processes during the backward pass; one process: the model.

    The graph must be the same at every step and use every parameter; buffers stay as they are.
    """
    if world_size() == 1:
        return model
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

    from torch.distributed.tensor import DTensor

    def whole(tensor: DTensor) -> Tensor:
        # A collective: every process calls it for the same tensors, in the same order.
        full: Tensor = tensor.full_tensor()
        return full.cpu() if keep else full.new_empty(0, device="cpu")

    return tree_map_only(DTensor, whole, state)


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


def _cut_as(tensor: Tensor, like: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    # src_data_rank=None: every process has read the whole tensor, nothing need be sent.
    whole = tensor.to(like.device)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
