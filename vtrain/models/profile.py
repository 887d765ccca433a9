"""What a model costs before it runs: parameters, multiply-accumulates, shapes and memory.

Nothing is computed and nothing is allocated: the model runs on tensors that have a shape and no
data.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Attention:
    """How the tokens of a map attend to one another.

    Attributes:
        heads: Attention heads.
        rows: Of the map.
        columns: The same.
        side: Tokens per side of the windows that the map is cut into; None where all meet.
        shift: Tokens by which the windows are shifted.
        level: `words` are inside the patches of another map.
    """

    heads: int
    rows: int
    columns: int
    side: int | None
    shift: int
    level: str

    @classmethod
    def of(cls, layer: AttentionLayer, heads: int) -> "Attention":
        """Return what a layer of a layout does."""
        windows = layer.windows
        side, shift = (None, 0) if windows is None else (windows.side, windows.shift)
        return cls(heads, layer.rows, layer.columns, side, shift, layer.level)


@dataclass(frozen=True)
class Stage:
    """A part of a model, or a run of equal parts, and the shape of each tensor it returns."""

    name: str
    shapes: tuple[Shape, ...]
    parameters: int = 0
    """Numbers that it learns, of all equal parts together."""
    attention: tuple[Attention, ...] = ()
    """The kinds of attention in it, each once, in their order."""


@dataclass(frozen=True)
class Memory:
    """Bytes that training holds at most: the sum of its fields, without kernels' workspaces.

    The parameters, their gradients, the optimizer's state and the moving average are fp32.
    Activations are what autograd keeps for the backward pass, each storage once, plus the images;
    a compiled model recomputes some of it and needs less.
    """

    parameters: int
    gradients: int
    optimizer: int
    ema: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.ema + self.activations


@dataclass(frozen=True)
class Profile:
    """The cost of one model at one image and batch size."""

    parameters: int
    trainable: int
    macs: int
    """Multiply-accumulates of matrix products, attention included, and convolutions, per image."""
    stages: tuple[Stage, ...]
    memory: Memory

    @property
    def gmacs(self) -> float:
        return self.macs / 1e9


SAMPLES = (2, 4)
"""Images of two small batches. Of one image alone some operations keep a view, not a copy."""


def profile(
    model: ImageClassifier,
    *,
    image_size: int | None = None,
    batch_size: int = 1,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    device: str = "cpu",
    optimizer_states: float = 2,
    ema: bool = False,
) -> Profile:
    """Measure `model`, which is left as it is and may live on the meta device.

    Args:
        model: Any model of the zoo.
        image_size: Pixels per side; the model's own unless given.
        batch_size: Images that are in memory at once, for `Memory` and the shapes.
        precision: Of the forward pass.
        device: Where it will train; the kernel of the attention, and so its memory, depends on it.
        optimizer_states: fp32 numbers that the optimizer keeps for a parameter (AdamW: 2).
        ema: Whether a moving average of the weights is kept.
    """
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parameters = count_parameters(model)
    memory = Memory(
        parameters=4 * parameters,
        gradients=4 * trainable,
        optimizer=round(4 * trainable * optimizer_states),
        ema=4 * parameters if ema else 0,
        activations=_activations(model, image_size, batch_size, precision, device),
    )
    stages = tuple(_stages(model, image_size, batch_size))
    return Profile(parameters, trainable, count_macs(model, image_size), stages, memory)


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers a model learns, frozen ones included."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: ImageClassifier, image_size: int | None = None) -> int:
    """Return the multiply-accumulates of one image: all tokens through all blocks, then the heads.

    This is how the field counts. A forward pass may do less: with class-token pooling ViT's last
    block skips the rows that no head reads.
    """
    copied, images = meta_copy(model), _images(model, image_size, 1, "meta")
    # Features, then heads, and not a plain call: that may skip rows which no head reads.
    # Here, as it loads Triton: that is a share of what one prediction takes.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied.forward_head(copied.forward_features(images))
    return int(counter.get_total_flops()) // 2


def _stages(model: ImageClassifier, image_size: int | None, batch_size: int) -> Iterator[Stage]:
    """Run the model and yield what each part returns, equal neighbours as one."""
    seen: list[tuple[str, tuple[Shape, ...]]] = []
    copied, side = meta_copy(model), image_size or model.image_size
    attention = [
        (layer.module, Attention.of(layer, _heads(copied.get_submodule(layer.module))))
        for layer in copied.attention_layout(side, side).layers
    ]
    for name, part in _parts(copied):
        part.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.append((name, shapes_of(output)))
        )
    with torch.no_grad():
        copied.forward_head(copied.forward_features(_images(model, image_size, batch_size, "meta")))
    # Neighbours of one list that return the same shapes are one line: "blocks.0-11".
    for (parent, shapes), run in groupby(seen, lambda row: (row[0].partition(".")[0], row[1])):
        names = [name for name, _ in run]
        first, last = names[0], names[-1]
        inside = (a for module, a in attention if any(module.startswith(f"{n}.") for n in names))
        yield Stage(
            first if first == last else f"{first}-{last[len(parent) + 1 :]}",
            shapes,
            sum(count_parameters(copied.get_submodule(name)) for name in names),
            tuple(dict.fromkeys(inside)),
        )


def _heads(module: nn.Module) -> int:
    heads = module.num_heads
    assert isinstance(heads, int), "an attention module states them"
    return heads


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that have parameters, and of a list its members."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            yield from ((f"{name}.{index}", member) for index, member in child.named_children())
        elif any(True for _ in child.parameters()):
            yield name, child


def shapes_of(output: Any) -> tuple[Shape, ...]:
    """Return the shape of each tensor of a module's result."""
    if isinstance(output, Tensor):
        return (tuple(output.shape),)
    return tuple(shape for part in output for shape in shapes_of(part))


def _activations(
    model: ImageClassifier, image_size: int | None, batch_size: int, precision: str, device: str
) -> int:
    """Return the bytes of activations; those of large batches follow from two small ones.

    What is kept is a constant and a share for each image. Attention goes through a large batch in
    thousands of pieces, each of which would be followed here.
    """
    few, more = SAMPLES
    if batch_size <= more:
        return activation_bytes(model, image_size, batch_size, precision, device)
    base, other = (activation_bytes(model, image_size, size, precision, device) for size in SAMPLES)
    return base + (batch_size - few) * (other - base) // (more - few)


def activation_bytes(
    model: ImageClassifier, image_size: int | None, batch_size: int, precision: str, device: str
) -> int:
    """Return the bytes that autograd keeps between the forward and the backward pass."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # views of one storage are counted once
        return tensor

    # Fake CPU tensors carry dtypes through autocast, which the meta device does not. On a GPU
    # attention is fused, and on the CPU it is for every 16-bit type but bf16: fp16 stands in.
    is_bf16 = precision == "bf16"
    low = torch.bfloat16 if is_bf16 and device == "cpu" else torch.float16
    copied = meta_copy(model).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        copied.to_empty(device="cpu")
        images = _images(model, image_size, batch_size, "cpu")
        # What autograd saves passes through `keep`; parameters and buffers are taken out after.
        with (
            torch.autocast("cpu", low, enabled=precision != "fp32"),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            copied(images)
        kept[images.untyped_storage()._cdata] = images
        for tensor in (*copied.parameters(), *copied.buffers()):
            kept.pop(tensor.untyped_storage()._cdata, None)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def meta_copy(model: ImageClassifier) -> ImageClassifier:
    """Return a copy of the model without data, in evaluation mode."""
    # `deepcopy` takes what `memo` holds for a tensor's id, so that no data is ever copied.
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(model, memo).eval()


def _images(model: ImageClassifier, image_size: int | None, batch_size: int, device: str) -> Tensor:
    size = image_size or model.image_size
    return torch.empty(batch_size, model.in_channels, size, size, device=device)
