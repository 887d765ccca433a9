"""Every step of one image through a model: what each part returns, and what it costs.

The model runs, on tensors that have a shape and no data, and hooks write down what passes: no shape
is stated here.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vtrain.layers.drop_path import DropPath
from vtrain.layers.probe import probed
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer
from vtrain.models.profile import Shape, meta_copy, shapes_of

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

BLOCK = re.compile(r".*?\bblocks\.\d+")


@dataclass(frozen=True)
class Step:
    """What one part of a model returns for one image.

    Attributes:
        name: Of the module; of attention weights the module and `weights`.
        kind: The class of the module.
        shapes: Of each tensor that it returns.
        macs: Multiply-accumulates of its matrix products and convolutions, its parts included.
        note: Which tokens meet, of attention weights.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    macs: int
    note: str = ""


def steps(model: ImageClassifier) -> list[Step]:
    """Run one image through `model`, which is left as it is, and return its steps in their order.

    All tokens go through all blocks, as with `count_macs`. A part comes after its own parts.
    """
    # Here, as it loads Triton: that is a share of what one prediction takes.
    from torch.utils.flop_counter import FlopCounterMode

    copied, size, counter = meta_copy(model), model.image_size, FlopCounterMode(display=False)
    seen: list[Step] = []
    layers = {layer.module: layer for layer in copied.attention_layout(size, size).layers}

    def weights(name: str, found: Tensor) -> None:
        module, (_, heads, queries, keys) = copied.get_submodule(name), found.shape
        proj = module.get_submodule("proj")
        assert isinstance(proj, nn.Linear)
        width = proj.in_features  # heads * d: products with keys and with values
        macs = 2 * found.numel() // heads * width
        shape = (found.shape[0], heads, queries, keys)
        seen.append(Step(f"{name} weights", "softmax", (shape,), macs, _who_meets(layers[name])))

    with ExitStack() as stack:
        # Not on the meta device, which has no autocast that attention could switch off.
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        copied.to_empty(device="cpu")
        for name, module in copied.named_modules():
            if _is_worth_showing(name, module):
                before, after = _writing(seen, name, counter)
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after).remove)
        modules = {name: copied.get_submodule(name) for name in layers}
        stack.enter_context(probed(modules, weights))
        stack.enter_context(counter)
        stack.enter_context(torch.no_grad())
        images = torch.empty(1, model.in_channels, size, size)
        copied.forward_head(copied.forward_features(images))
    return seen


def _is_worth_showing(name: str, module: nn.Module) -> bool:
    """Leave out the model itself, and what returns its input outside of training."""
    is_nothing = isinstance(module, nn.Identity | DropPath)
    return bool(name) and not is_nothing and ("." not in name or not isinstance(module, nn.Dropout))


def _writing(
    seen: list[Step], name: str, counter: "FlopCounterMode"
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return hooks for before and after a module, which write down one step."""
    start = 0

    def before(*_: object) -> None:
        nonlocal start
        start = counter.get_total_flops()

    def after(module: nn.Module, _: object, output: object) -> None:
        macs = (counter.get_total_flops() - start) // 2
        seen.append(Step(name, type(module).__name__, shapes_of(output), macs))

    return before, after


def _who_meets(layer: AttentionLayer) -> str:
    """Say which tokens attend to one another."""
    prefix = "".join(f"{name} + " for name in layer.prefix)
    if layer.windows is None:
        return f"{prefix}{layer.rows} x {layer.columns} {layer.level}"
    side, shift, mask = layer.windows.side, layer.windows.shift, layer.windows.mask
    if layer.level == "words":
        return f"{side} x {side} words of each patch"
    text = f"{side} x {side} windows on {layer.rows} x {layer.columns}"
    return text if mask is None else f"{text}, rolled by {shift}, mask {tuple(mask.shape)}"


def without_repeats(found: list[Step]) -> Iterator[Step | tuple[str, str, str]]:
    """Yield steps, and for blocks that are as one before: the first, the last, and which that is.

    Blocks are alike if every part is: its kind, its shapes, its cost, and who meets.
    """
    shown: dict[tuple[Step, ...], str] = {}
    # Held back, as the next block may be like these, too: first, last, and what they are like.
    alike: tuple[str, str, str] | None = None
    for block, members in groupby(found, lambda step: _block(step.name)):
        group = tuple(members)
        key = tuple(replace(step, name=step.name.removeprefix(block)) for step in group)
        if not block or key not in shown:
            if alike is not None:
                yield alike
                alike = None
            shown.setdefault(key, block)
            yield from group
        elif alike is not None and alike[2] == shown[key]:
            alike = alike[0], block, shown[key]
        else:
            if alike is not None:
                yield alike
            alike = block, block, shown[key]
    if alike is not None:
        yield alike


def _block(name: str) -> str:
    match = BLOCK.match(name)
    return "" if match is None else match.group()
