"""Tables that a model computes when it is built, and does not learn."""

from collections.abc import Callable

import torch
from torch import Tensor


def constant(shape: tuple[int, ...], dtype: torch.dtype, compute: Callable[[], Tensor]) -> Tensor:
    """Return what `compute` returns; where a model is built on the meta device, only its shape.

    There nothing has values, but the first operation would import torch._dynamo: that is slow, and
    leaves a folder among the temporary files of every command that loads a model.

    Shape: -> `shape`.
    """
    # Not by `get_default_device`, which torch.compile cannot trace.
    if torch.empty(0).device.type == "meta":
        return torch.empty(shape, dtype=dtype)
    return compute()
