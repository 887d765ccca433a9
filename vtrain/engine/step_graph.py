"""Capture an optimizer step as a CUDA graph and replay it: the host launches one thing.

At CIFAR size a step is hundreds of kernels, and a fast GPU may be done with them before the host
has launched them one by one. Not measured yet.

Reference: "CUDA Graphs" in NVIDIA's CUDA C++ Programming Guide; torch.cuda.graph.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from vtrain.engine.step import StepFunction
from vtrain.errors import DeviceError

log = logging.getLogger(__name__)

WARM_UP = 3
"""Steps of one signature in a row before the capture: compilers and allocators are done by then."""

Signature: TypeAlias = tuple[object, ...]
"""What a graph fixes of a step: shapes, dtypes, and the numbers that it is called with."""


class GraphBackend(Protocol):
    """Runs device work, and captures it so that it can be replayed on the same memory."""

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work now."""

    def run_without_sync(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work now; a RuntimeError says where it waits for the device."""

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Return the tensor that the work writes, and what replays it; do nothing yet."""


class CudaGraphBackend:
    """Captures CUDA graphs; warms up on the stream on which it will capture."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        before = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            result = work()
        before.wait_stream(self.stream)
        return result

    def run_without_sync(self, work: Callable[[], Tensor]) -> Tensor:
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            return self.run(work)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Threads of the loader may allocate pinned memory meanwhile, which "global" forbids.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay


@dataclass(frozen=True)
class CapturedStep:
    """A graph, and the memory that it reads and writes."""

    signature: Signature
    inputs: Tensor
    targets: Tensor
    loss: Tensor
    launch: Callable[[], None]

    def replay(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Make the step on other values of the same shapes."""
        self.inputs.copy_(inputs, non_blocking=True)
        self.targets.copy_(targets, non_blocking=True)
        self.launch()
        return self.loss.clone()  # the next replay overwrites it


class GraphedStep:
    """A `StepFunction` that makes the steps of another one, by a CUDA graph where that is possible.

    A signature that comes `WARM_UP` times in a row is captured. Other steps, such as the smaller
    last one of an epoch, are launched as usual meanwhile, and the graph stays. What changes from
    step to step must be on the device: the inputs are copied to where the graph reads them, and the
    learning rates become tensors, which `optim.groups.set_lr` fills. Dropout differs between
    replays, as torch hands a graph the seed of each.

    The last warm-up step is checked: if it waits for the GPU, that is logged and no step is ever
    captured. It is found there because a capture that fails may leave torch unable to go on.

    The optimizer is fused, so that its step neither waits nor branches on the host.
    """

    def __init__(self, step: StepFunction, optimizer: Optimizer, backend: GraphBackend) -> None:
        self.step, self.optimizer, self.backend = step, optimizer, backend
        self.can_capture = True
        self._captured: CapturedStep | None = None
        self._signature: Signature = ()
        self._streak = 0
        """Steps in a row with `_signature`, this one included."""
        for group in optimizer.param_groups:
            if not isinstance(group["lr"], Tensor):  # else another graph goes on reading it
                device = group["params"][0].device
                group["lr"] = torch.tensor(float(group["lr"]), device=device)

    def __call__(self, inputs: Tensor, targets: Tensor, weight: float, pieces: int) -> Tensor:
        """Make a step.

        Raises:
            DeviceError: The capture failed; torch may not be able to go on.
        """
        signature = inputs.shape, inputs.dtype, targets.shape, targets.dtype, weight, pieces
        self._streak = self._streak + 1 if signature == self._signature else 1
        self._signature = signature
        # A graph outlives steps of other signatures; it goes when another is captured.
        if self._captured is None or self._captured.signature != signature:
            if not self.can_capture or self._streak <= WARM_UP:
                return self._launch(partial(self.step, inputs, targets, weight, pieces))
            self._captured = None  # its memory is free before another graph takes some
            self._captured = self._capture(inputs.clone(), targets.clone(), weight, pieces)
        # A capture does nothing yet: the step that was captured is made by the first replay.
        return self._captured.replay(inputs, targets)

    def _launch(self, work: Callable[[], Tensor]) -> Tensor:
        """Make a step as usual; where the last one of the warm-up waits, no step is captured."""
        if not self.can_capture or self._streak < WARM_UP:
            return self.backend.run(work)
        try:
            return self.backend.run_without_sync(work)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self.can_capture, self._captured = False, None
            reason = first_line(error)
            log.warning("the step cannot be recorded and is launched as usual (%s)", reason)
        return self.backend.run(work)

    def _capture(self, inputs: Tensor, targets: Tensor, weight: float, pieces: int) -> CapturedStep:
        groups = [group for group in self.optimizer.param_groups if "capturable" in group]
        try:
            for group in groups:  # Adam asks for it; its fused step is the same either way
                group["capturable"] = True
            work = partial(self.step, inputs, targets, weight, pieces)
            loss, launch = self.backend.capture(work)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            what = f"the step cannot be recorded ({first_line(error)})"
            raise DeviceError(what, "train.cuda_graph", "set it to false") from error
        finally:
            for group in groups:
                group["capturable"] = False
        return CapturedStep(self._signature, inputs, targets, loss, launch)


def first_line(error: RuntimeError) -> str:
    """Return the first line of what torch says."""
    return str(error).partition("\n")[0]
