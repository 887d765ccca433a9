"""Start from weights that exist: read them, translate their names, fit them to the model.

What is fitted, all of it in fp32: position embeddings and bias tables to another grid or window,
patch kernels to another patch size, input kernels to another number of channels; heads of another
number of classes stay new. Anything else that does not match is an error.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vtrain.errors import CheckpointError, ConfigError
from vtrain.files.weights import read_weights
from vtrain.layers.patch_embed import resize_kernel
from vtrain.layers.position import resize_map, resize_tokens
from vtrain.models.base import ImageClassifier
from vtrain.models.weights.dialects import State, translate

HUB = "hf-hub:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, by our names.

    Attributes:
        dialect: Whose names the file used.
        loaded: Taken as they are.
        resized: Taken after fitting them to the model's shapes.
        new: Left as they were made: heads that the file does not have, or has for another number of
            classes, and what its dialect never has.
        unused: Tensors of the file that the model has no use for, all of known kinds.
    """

    dialect: str
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.dialect}: {len(self.loaded)} tensors loaded"]
        for kind in ("resized", "new", "unused"):
            names: tuple[str, ...] = getattr(self, kind)
            if names:
                more = ", ..." if len(names) > 3 else ""
                parts.append(f"{len(names)} {kind} ({', '.join(names[:3])}{more})")
        return ", ".join(parts)


def load_pretrained(
    model: ImageClassifier, source: str, classes: Sequence[str] | None = None
) -> LoadReport:
    """Replace the weights of `model` by those of `source`; on an error it is left as it was.

    Args:
        model: Any model of the zoo. On the meta device it has no weights: only the report is made.
        source: A file of weights, or `hf-hub:owner/name`, which is downloaded.
        classes: The model's classes. Where the file names its own and they differ, the heads are
            matched by name, and stay new if the file does not know all of them.

    Raises:
        CheckpointError: The file cannot be used, or its weights do not fit the model.
        ConfigError: The hub is named, and the package that reads it is not installed.
    """
    path = fetch(source) if source.startswith(HUB) else Path(source)
    try:
        file = read_weights(path)
        dialect, given = translate(file.tensors)
    except RuntimeError:  # torch cannot stack or split tensors of such shapes
        raise CheckpointError("tensors that belong together do not fit together", source) from None
    wanted = model.state_dict()
    ignored = [
        name
        for name, tensor in given.items()
        if re.search(dialect.ignored, name)
        and (name not in wanted or tensor.shape != wanted[name].shape)
    ]
    given = {name: tensor for name, tensor in given.items() if name not in ignored}
    heads = [name for name in wanted if name.split(".")[0] in model.depth_groups()[-1]]
    if classes is not None and file.classes:
        given = with_classes(given, heads, list(file.classes), list(classes))
    shared = [name for name in wanted if name in given]
    fitted = {name: fit(name, given[name], wanted[name].shape) for name in shared}
    taken = {name: tensor for name, tensor in fitted.items() if tensor is not None}
    unfit = [name for name in shared if name not in taken]
    absent = [name for name in wanted if name not in given]

    refuse_any(
        source,
        absent=[n for n in absent if n not in heads and not re.search(dialect.lacking, n)],
        unknown=[name for name in given if name not in wanted],
        reshaped=[name for name in unfit if name not in heads],
        nonfinite=[name for name, tensor in taken.items() if not tensor.isfinite().all()],
    )
    if not any(tensor.is_meta for tensor in wanted.values()):
        model.load_state_dict({**wanted, **taken})
    return LoadReport(
        dialect.name,
        loaded=tuple(name for name in taken if taken[name] is given[name]),
        resized=tuple(name for name in taken if taken[name] is not given[name]),
        new=tuple(name for name in wanted if name not in taken),
        unused=(*ignored, *unfit),
    )


def with_classes(given: State, heads: list[str], known: list[str], classes: list[str]) -> State:
    """Return the tensors with the heads' rows for `classes`, or without heads if one is unknown."""
    if known == classes:
        return given
    if not set(classes) <= set(known):
        return {name: tensor for name, tensor in given.items() if name not in heads}
    rows = torch.tensor([known.index(name) for name in classes])
    ordered = {n: given[n][rows] for n in heads if n in given and len(given[n]) == len(known)}
    return {**given, **ordered}


def fetch(source: str) -> Path:
    """Download the weights of `hf-hub:owner/name`, or find them in the cache of earlier downloads.

    Raises:
        CheckpointError: The repository has none, or cannot be reached.
        ConfigError: `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(
            "the hub needs the package huggingface_hub", source, 'pip install "vtrain[hub]"'
        ) from None
    for name in HUB_FILES:
        try:
            # The cache holds links, and vtrain opens only regular files.
            return Path(hf_hub_download(source.removeprefix(HUB), name)).resolve()
        except Exception as error:  # its own kinds and those of its HTTP client, by version
            absent = isinstance(error, EntryNotFoundError)
            if not absent or isinstance(error, LocalEntryNotFoundError):  # the latter: no network
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                raise CheckpointError(
                    f"the hub did not answer with weights ({reason})", source
                ) from None
    raise CheckpointError(f"the repository has neither {' nor '.join(HUB_FILES)}", source)


def fit(name: str, tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """Return `tensor` in the wanted shape: itself, resized in fp32, or None if no rule does it."""
    if tensor.shape == shape:
        return tensor
    rule = next((rule for ending, rule in RULES.items() if name.endswith(ending)), None)
    if rule is None or tensor.ndim != len(shape):
        return None
    try:
        fitted = rule(tensor.float(), shape)
    except (ValueError, RuntimeError):  # not a square, or too small for one
        return None
    return fitted if fitted.shape == shape else None


def fit_tokens(positions: Tensor, shape: torch.Size) -> Tensor:
    """Resize positions of prefix tokens and a square grid. Shape: (1, P + N, D), another N."""
    grid = math.isqrt(shape[1])
    return resize_tokens(positions, grid, prefix=shape[1] - grid * grid)


def fit_axis(positions: Tensor, shape: torch.Size) -> Tensor:
    """Resize positions along one axis. Shape: (1, n, D), another n."""
    return resize_map(positions.mT[:, :, None], 1, shape[1])[:, :, 0].mT


def fit_map(positions: Tensor, shape: torch.Size) -> Tensor:
    """Resize positions that lie on a map. Shape: (1, D, h, w), another h and w."""
    return resize_map(positions, shape[2], shape[3])


def fit_table(table: Tensor, shape: torch.Size) -> Tensor:
    """Resize a bias for each offset, dy by dx. Shape: ((2 * side - 1)**2, heads), another side."""
    old, new = math.isqrt(len(table)), math.isqrt(shape[0])
    return resize_map(table.mT.reshape(1, -1, old, old), new, new)[0].flatten(1).mT


def fit_kernel(kernel: Tensor, shape: torch.Size) -> Tensor:
    """Change the input channels and the size of a patch kernel. Shape: (D, C, p, p), another C, p.

    One channel gets the sum over the channels, so that a grey image gives what its copies in every
    channel gave. More get the channels in turn, scaled to keep the size of the result.
    """
    channels, old = shape[1], kernel.shape[1]
    if channels == 1:
        kernel = kernel.sum(1, keepdim=True)
    elif channels != old:
        kernel = kernel[:, torch.arange(channels) % old] * (old / channels)
    return resize_kernel(kernel, shape[2])


RULES: dict[str, Callable[[Tensor, torch.Size], Tensor]] = {
    "absolute_pos_embed": fit_tokens,
    "patch_pos": fit_tokens,
    "pos_embed": fit_tokens,
    "pos_embed_x": fit_axis,
    "pos_embed_y": fit_axis,
    "pixel_pos": fit_map,
    "relative_position_bias_table": fit_table,
    "embed.proj.weight": fit_kernel,
}
"""How a tensor is fitted, by the end of its name."""


def refuse_any(source: str, **problems: list[str]) -> None:
    """Raise if any kind of problem has names.

    Raises:
        CheckpointError: One line: how many of each kind, and the first names.
    """
    found = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise CheckpointError(
            f"the weights do not fit the model: {', '.join(found)}",
            source,
            "model.name and its arguments must be those of the file",
        )
