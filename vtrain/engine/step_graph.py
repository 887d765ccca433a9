"""Record an optimizer step on a GPU once and replay it: the host launches one thing, not hundreds.

At CIFAR size a step is hundreds of kernels, and a fast GPU may be done with them before the host
has started them one by one. Not measured yet.

Reference: "CUDA Graphs" in NVIDIA's CUDA C++ Programming Guide; torch.cuda.graph.
"""

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_unflatten

from vtrain.data.augment.draws import send
from vtrain.errors import DeviceError

log = logging.getLogger(__name__)

WARM_UP = 3
"""Steps of one kind in a row before it is recorded: compilers and allocators are done by then."""

Step: TypeAlias = Callable[..., Tensor]
"""The inputs one by one, the weight of the loss, pieces -> the loss."""


class Recorder(Protocol):
    """Runs device work, and records it so that it can be repeated on the same memory."""

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work now."""
        ...

    def rehearse(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work now; a RuntimeError says why it cannot be recorded."""
        ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Return what repeats the work, and the tensor that it then writes; do nothing yet."""
        ...


class CudaRecorder:
    """Records CUDA graphs; warms up on the stream on which it will record."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        before = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            result = work()
        before.wait_stream(self.stream)
        return result

    def rehearse(self, work: Callable[[], Tensor]) -> Tensor:
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            return self.run(work)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Threads of the loader may allocate pinned memory meanwhile, which "global" forbids.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay


class StepGraph:
    """Makes optimizer steps; those of a kind that comes `WARM_UP` times in a row are recorded.

    A kind is all that a recording fixes: shapes, dtypes and the numbers that the step is called
    with. Other steps, such as the smaller last one of an epoch, run as they are, and the recording
    stays. What changes from step to step must be on the device: the inputs are copied to where the
    recording reads them, and the learning rates become tensors, which `optim.groups.set_lr` fills.
    Dropout differs between replays, as torch hands a recording the seed of each.

    The last step before that is a rehearsal: one that waits for the GPU is said once, made again,
    and no step is recorded. It is found there because a recording that fails may leave torch unable
    to go on.

    Args:
        optimizer: Fused, so that its step neither waits nor branches on the host.
        recorder: Records the work; `CudaRecorder`.
    """

    def __init__(self, optimizer: Optimizer, recorder: Recorder) -> None:
        self.optimizer, self.recorder = optimizer, recorder
        self.is_off = False
        self._last: tuple[object, ...] | None = None
        self._in_row = 0
        self._recorded: tuple[object, ...] | None = None
        for group in optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):  # else another recording goes on reading it
                device = group["params"][0].device
                group["lr"] = torch.tensor(float(group["lr"]), device=device)

    def __call__(self, step: Step, inputs: tuple[Any, ...], weight: float, count: int) -> Tensor:
        """Make `step`, by a recording if there is one of its kind.

        Args:
            step: What to do.
            inputs: Its first arguments: tensors on the device or to be copied there, and tuples of
                them. What is no tensor is a part of the step's kind.
            weight: Its next argument.
            count: Its last argument.

        Raises:
            DeviceError: The recording failed; torch may not be able to go on.
        """
        leaves, structure = tree_flatten(inputs)
        kind = (structure, *map(_fixed, leaves), weight, count)
        self._in_row = self._in_row + 1 if kind == self._last else 1
        self._last = kind
        if self._recorded == kind:
            return self._replayed(leaves)
        device = self.optimizer.param_groups[0]["params"][0].device
        leaves = [send(leaf, device) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        if self._in_row > WARM_UP and not self.is_off:
            self._inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            own = tree_unflatten(self._inputs, structure)
            self._record(lambda: step(*own, weight, count))
            self._recorded = kind
            return self._replayed(leaves)
        there = tree_unflatten(leaves, structure)
        work = partial(step, *there, weight, count)
        if self._in_row == WARM_UP and not self.is_off:
            try:
                return self.recorder.rehearse(work)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self.is_off, self._recorded = True, None
                log.warning("the step cannot be recorded and is launched as usual (%s)", why(error))
        return self.recorder.run(work)

    def _replayed(self, leaves: list[Any]) -> Tensor:
        for own, given in zip(self._inputs, leaves, strict=True):
            if isinstance(own, Tensor):
                own.copy_(given, non_blocking=True)
        self._replay()
        return self._loss.clone()  # the next replay overwrites it

    def _record(self, work: Callable[[], Tensor]) -> None:
        self._recorded = None
        groups = self.optimizer.param_groups
        promised = [group for group in groups if "capturable" in group]
        try:
            for group in promised:  # Adam asks; its fused step is the same either way
                group["capturable"] = True
            self._loss, self._replay = self.recorder.record(work)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            what = f"the step cannot be recorded ({why(error)})"
            raise DeviceError(what, "train.cuda_graph", "set it to false") from error
        finally:
            for group in promised:
                group["capturable"] = False


def why(error: RuntimeError) -> str:
    """Return the first line of what torch says."""
    return str(error).partition("\n")[0]


def _fixed(leaf: Any) -> object:
    """Return what a recording fixes of an input."""
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf
