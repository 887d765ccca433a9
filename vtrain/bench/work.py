"""What a step of training needs at least: the arithmetic and the traffic of its kernels.

The step runs once while every operation is looked at. An ideal machine would run it as these
kernels and no others, each at the pace of its arithmetic or of its traffic, whichever is slower:
matrix products that read their operands and write their result once; attention as one kernel that
keeps its scores to itself; LayerNorm fused with the residual addition before it; GELU by itself;
the optimizer in one pass. Everything else (casts, copies, reductions, the loss) is taken as free.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vtrain.bench.machine import Limits

PASSES = {"gelu": 2, "gelu_backward": 3, "native_layer_norm": 4, "native_layer_norm_backward": 5}
"""How often an operation moves a tensor of its input's size. LayerNorm moves the residual twice."""
BYTES_PER_ADAM_PARAMETER = 28
"""fp32: weight, gradient and two moments are read; weight and moments are written."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of the ideal step."""

    flops: float
    bytes: float

    def seconds(self, limits: Limits) -> float:
        """Return its shortest time on a machine."""
        return max(self.flops / limits.flops, self.bytes / limits.bytes)


@dataclass
class Work(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch types no __init_subclass__
    """Collects the kernels of what runs inside `with Work(...) as work:`.

    A compiled model hides its operations; run it as it was before.
    """

    bytes_per_number: int
    """Of activations and weights in the forward pass: 2 in bf16 and fp16, 4 in fp32."""
    kernels: list[Kernel] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def flops(self) -> float:
        """Arithmetic of all matrix products."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> float:
        """Traffic of all kernels."""
        return sum(kernel.bytes for kernel in self.kernels)

    def seconds(self, limits: Limits) -> float:
        """Return the shortest time that these kernels take on a machine, one after the other."""
        return sum(kernel.seconds(limits) for kernel in self.kernels)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._note(func, args, kwargs or {}, out)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        name = func.overloadpacket.__name__
        # First: attention is in torch's registry too, by which its scores would be moved.
        if name.startswith("_scaled_dot_product"):
            self._note_attention(name, args)
        elif func.overloadpacket in flop_registry:
            sizes = [t.numel() for t in tensors((*args, out))]
            # One of the three tensors of a batched product in attention is the scores.
            moved = sum(sizes) - (max(sizes) if name in ("bmm", "baddbmm") else 0)
            flops = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            self._add(flops, moved)
        elif name in PASSES:
            self._add(0, PASSES[name] * next(tensors(args)).numel())
        elif name.startswith("_fused_adam"):
            # args[0] lists the parameters; one kernel reads and writes all that belongs to them.
            parameters = sum(p.numel() for p in args[0])
            self.kernels.append(Kernel(0, BYTES_PER_ADAM_PARAMETER * parameters))

    def _note_attention(self, name: str, args: Any) -> None:
        """Count two products forward and four backward; q, k, v and out move, and their gradients.

        Fused kernels compute the scores again in the backward pass; that is their choice.
        """
        backward = name.endswith("backward")
        q, k, v = args[1:4] if backward else args[:3]
        products = 4 if backward else 2
        inputs = 2 * q.numel() + k.numel() + v.numel()  # the output is as large as q
        self._add(2 * products * q.numel() * k.shape[-2], (2 if backward else 1) * inputs)

    def _add(self, flops: float, numbers: float) -> None:
        self.kernels.append(Kernel(float(flops), float(self.bytes_per_number * numbers)))


def tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples and lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from tensors(value)
