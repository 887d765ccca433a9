"""A look at attention weights, which no kernel returns.

Whoever looks makes `attention.py` compute them in the open for the time of a `with` block; nothing
is computed twice, and the model's own code stays the only one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Probe:
    """Computes attention in the open, and hands out its weights."""

    record: Callable[[str, Tensor], None]
    module: str | None = None
    """The name of the module that attends now."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None
    ) -> Tensor:
        """Compute `attend` with weights in fp32 (float64 stays), and record them."""
        assert self.module is not None, "attention outside of the modules that are probed"
        if q.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("attention cannot be probed while a CUDA graph is captured")
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):  # it would narrow the products
            factor = q.shape[-1] ** -0.5 if scale is None else scale
            scores = (q.to(wide) * factor) @ k.to(wide).mT  # (B, H, Nq, Nk)
            if bias is not None:
                scores = scores + bias.to(wide)
            weights = scores.softmax(-1)
            self.record(self.module, weights)
            return (weights @ v.to(wide)).to(v.dtype)


_probe: ContextVar[Probe | None] = ContextVar("_probe", default=None)
"""Of this thread: another one may train or predict meanwhile."""


def current_probe() -> Probe | None:
    """Return what wants to see the attention weights; nothing does in compiled code."""
    return None if torch.compiler.is_compiling() else _probe.get()


@contextmanager
def probed(
    modules: Mapping[str, nn.Module], record: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Hand the attention weights of modules to `record(name, weights)`, as they are computed.

    `modules` maps names to all the modules that will attend meanwhile. Their weights have the shape
    (rows, H, queries, keys), are at least fp32, and are part of autograd's graph. Outside of this
    context nothing is different, and no weight is kept.

    Raises:
        RuntimeError: One of the modules is compiled, or was not called: a compiled model or a
            replayed CUDA graph computes attention where nobody can see it.
    """
    for name, module in modules.items():
        if any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in module.modules()):
            raise RuntimeError(f"the attention of {name} is compiled: probe the original model")
    seen: set[str] = set()

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            if (probe := _probe.get()) is not None:  # else another thread's call
                seen.add(name)
                probe.module = name

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
        token = _probe.set(Probe(record))
        stack.callback(_probe.reset, token)
        yield
    if unseen := sorted(modules.keys() - seen):
        raise RuntimeError(f"the attention of {unseen[0]} was not computed: is the model compiled?")
