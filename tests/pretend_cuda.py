"""A GPU that is not there: tensors that say `cuda:0`, are kept apart from others, and count waits.

Where no GPU is at hand this runs the code paths of CUDA all the same. Arithmetic is the CPU's, so
results can be compared with a run on the CPU; what a GPU refuses, such as an operation on tensors
of two devices, is refused; and what would wait for a GPU is noted. It has no streams, no graphs, no
compiler and no kernels of its own: those only a GPU shows.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, ClassVar
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vtrain.data.augment.erasing import _noise
from vtrain.data.augment.pixels import _colour
from vtrain.data.normalise import coefficients

DEVICE = torch.device("cuda", 0)
MEMORY = 80 << 30
TABLES = coefficients, _noise, _colour
"""What is made once for each device."""
WAITING = {
    "_local_scalar_dense": "item",
    "nonzero": "nonzero",
    "masked_select": "masked_select",
    "equal": "equal",
    "bincount": "bincount",
    "_unique2": "unique",
    "repeat_interleave": "repeat_interleave",
}
"""Operations whose result the host has to see, or whose size depends on values."""


class OnCuda(Tensor):
    """A tensor that says it is on a GPU, around one on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "OnCuda":
        assert not isinstance(inner, OnCuda)
        outer = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            requires_grad=requires_grad,
        )
        outer.inner = inner
        return outer

    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({self.inner})"

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # so that modules take it as it is
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> "OnCuda":
        return OnCuda(inner["inner"])

    def tolist(self) -> Any:
        PretendCuda.wait("tolist")
        return self.inner.tolist()

    def record_stream(self, _: Any) -> None: ...

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        apart = [tuple(t.shape) for t in given if not isinstance(t, OnCuda) and t.dim() > 0]
        if name == "copy_":
            if apart or not isinstance(args[0], OnCuda):
                PretendCuda.copies(args[0].shape, "copy_")
            if not isinstance(args[0], OnCuda) or (apart and True not in args[2:]):
                PretendCuda.wait("copy_")
        elif apart:
            raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU, of shapes {apart}")
        if name in WAITING:
            PretendCuda.wait(WAITING[name])
        if name in ("index", "index_put_"):
            masks = [t for t in tree_leaves(args[1]) if t is not None and t.dtype == torch.bool]
            if masks and (name == "index" or args[2].numel() > 1):
                PretendCuda.wait("indexing by a mask")
        known = {id(t.inner): t for t in given if isinstance(t, OnCuda)}

        def bare(x: Any) -> Any:
            return x.inner if isinstance(x, OnCuda) else x

        def dressed(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return known[id(x)] if id(x) in known else OnCuda(x)

        result = func(*tree_map(bare, args), **tree_map(bare, kwargs))
        return args[0] if name == "copy_" else tree_map(dressed, result)


class PretendCuda(TorchFunctionMode):
    """Takes `cuda` out of every call before torch sees it, and gives the result an `OnCuda`."""

    waits: ClassVar[list[str]] = []
    is_strict: ClassVar[bool] = False
    is_capturing: ClassVar[bool] = False

    @classmethod
    def wait(cls, why: str) -> None:
        """Note that the host would wait for the GPU here.

        Raises:
            RuntimeError: It must not.
        """
        cls.waits.append(why)
        if cls.is_strict or cls.is_capturing:
            raise RuntimeError(f"called a synchronizing CUDA operation: {why}")

    @classmethod
    def copies(cls, shape: torch.Size, to: str) -> None:
        """Refuse a copy from or to the host's memory while a step is captured.

        Raises:
            RuntimeError: It is.
        """
        if cls.is_capturing:
            raise RuntimeError(f"operation not permitted when stream is capturing: {shape} to {to}")

    def __torch_function__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in MOVES:
            return MOVES[func](*args, **kwargs)
        if func is F.one_hot and isinstance(args[0], OnCuda):  # on a GPU it looks at no value
            return OnCuda(func(args[0].inner, *args[1:]))
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if torch.device(kwargs.get("device") or "cpu").type != "cuda":
            return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor):
            self.wait("torch.tensor")
        kwargs["device"] = torch.device("cpu")
        result = func(*tree_map(_bare, args), **tree_map(_bare, kwargs))
        return OnCuda(result.detach(), result.requires_grad)


def on_cpu(tree: Any) -> Any:
    """Return plain data with its tensors on the CPU."""
    return tree_map(_bare, tree)


def _bare(x: Any) -> Any:
    return x.inner if isinstance(x, OnCuda) else x


def _to(
    tensor: Tensor, *args: Any, non_blocking: bool = False, copy: bool = False, **kwargs: Any
) -> Tensor:
    place, dtype = kwargs.get("device"), kwargs.get("dtype")
    for argument in args:
        if isinstance(argument, torch.dtype):
            dtype = argument
        elif isinstance(argument, Tensor):
            place, dtype = argument.device, argument.dtype
        elif isinstance(argument, bool):
            non_blocking = non_blocking or argument
        elif argument is not None:
            place = argument
    if kwargs.get("memory_format") is not None:
        tensor = tensor.contiguous(memory_format=kwargs["memory_format"])
    place = tensor.device if place is None else torch.device(place)
    if place.type not in (tensor.device.type, "meta"):
        PretendCuda.copies(tensor.shape, place.type)
        if not non_blocking:
            PretendCuda.wait(f"a copy of shape {tuple(tensor.shape)} to {place.type}")
    with torch._C.DisableTorchFunction():
        if place.type == tensor.device.type:
            return tensor.to(dtype or tensor.dtype, copy=copy)
        inner = _bare(tensor.detach())
        content = inner.to(
            "meta" if place.type == "meta" else "cpu", dtype or inner.dtype, copy=True
        )
        return OnCuda(content, tensor.requires_grad) if place.type == "cuda" else content


def _no_grad(mode: bool = True) -> Any:
    return torch.no_grad() if mode else nullcontext()


def _groups(lists: list[list[Tensor]], with_indices: bool = False) -> dict[Any, Any]:
    """Do what optimizers ask of torch in C++, which knows the tensors as the CPU's."""
    found = torch._C._group_tensors_by_device_and_dtype(lists, with_indices)
    place = lists[0][0].device
    return {(place, dtype): tensors for (_, dtype), tensors in found.items()}


MOVES: dict[Any, Callable[..., Tensor]] = {
    Tensor.pin_memory: lambda tensor: tensor,
    Tensor.cpu: lambda tensor: _to(tensor, "cpu"),
    Tensor.cuda: lambda tensor, **keys: _to(tensor, DEVICE, **keys),
    Tensor.to: _to,
}


class Stream:
    """Work is done at once: there is nothing to wait for."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def wait_stream(self, _: Any) -> None: ...
    def wait_event(self, _: Any) -> None: ...
    def synchronize(self) -> None: ...
    def is_capturing(self) -> bool:
        return False

    def record_event(self) -> "Stream":
        return self


def tensors(*trees: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):
    """Captures operations as a CUDA graph does: the memory and the numbers they are given.

    What happens while it captures is undone at the end, as nothing runs while a graph is captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.born: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in map(_bare, tensors(args, kwargs)):
            place = tensor.untyped_storage().data_ptr()
            if place not in self.born and place not in self.before:
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self.before[place] = (whole, whole.clone())
        result = func(*args, **kwargs)
        for tensor in map(_bare, tensors(result)):
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
                if _bare(old).data_ptr() != _bare(new).data_ptr():
                    old.copy_(new)


class TapeBackend:
    """A `GraphBackend` without a GPU: tapes stand in for CUDA graphs, on any tensors of the CPU.

    On the pretended GPU it also refuses what waits for it, and copies from and to the host.
    """

    def __init__(self, _: torch.device = DEVICE) -> None:
        self.tapes: list[Tape] = []
        self.replays = 0

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def run_without_sync(self, work: Callable[[], Tensor]) -> Tensor:
        PretendCuda.is_strict = True
        try:
            return work()
        finally:
            PretendCuda.is_strict = False

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        tape = Tape()
        PretendCuda.is_capturing = True
        try:
            with torch.random.fork_rng(devices=[]), tape:
                result = work()
        finally:
            PretendCuda.is_capturing = False
        tape.undo()
        self.tapes.append(tape)

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return result, replay


@contextmanager
def pretend_cuda() -> Iterator[type[PretendCuda]]:
    """Let there be a GPU; yields what knows of the waits for it."""
    autocast = torch.autocast
    properties = types.SimpleNamespace(
        name="Pretended", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132
    )
    stand_ins: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "Pretended",
        "get_device_properties": lambda *_: properties,
        "mem_get_info": lambda *_: (MEMORY, MEMORY),
        "max_memory_allocated": lambda *_: 1 << 20,
        "memory_allocated": lambda *_: 1 << 20,
        "reset_peak_memory_stats": lambda *_: None,
        "set_per_process_memory_fraction": lambda *_: None,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: PretendCuda.wait("synchronize"),
        "manual_seed_all": lambda _: None,
        "Stream": Stream,
        "current_stream": Stream,
        "is_current_stream_capturing": lambda: False,
        "stream": lambda *_, **__: nullcontext(),
    }
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(torch.accelerator, "current_stream", Stream))
        stack.enter_context(
            mock.patch.object(
                torch, "autocast", lambda _, *args, **keys: autocast("cpu", *args, **keys)
            )
        )
        stack.enter_context(mock.patch.object(torch, "inference_mode", _no_grad))
        stack.enter_context(
            mock.patch.object(
                Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(_groups)
            )
        )
        PretendCuda.waits, PretendCuda.is_strict = [], False
        for table in TABLES:  # a real GPU's are kept under the same name
            table.cache_clear()
            stack.callback(table.cache_clear)
        stack.enter_context(PretendCuda())
        yield PretendCuda
