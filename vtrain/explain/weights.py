"""What weights alone show: filters, position embeddings, relative-position biases, windows.

Parameters are found by timm's names, which every model of the zoo has.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtrain.layers.windows import Windows
from vtrain.models.base import ImageClassifier

COMPONENTS = 28
"""Filters that are drawn, as in figure 7 of arXiv:2010.11929."""

Array = NDArray[np.float64]


@torch.no_grad()
def filters(model: ImageClassifier) -> tuple[Array, Array]:
    """Return the principal components of the first layer's kernels, and their share of variance.

    Shape: -> (M, rows, columns, C), (M,); each sign is free.
    """
    kernel = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).weight.detach()
    W = kernel.double().cpu().permute(0, 2, 3, 1)  # (D, rows, columns, C)
    flat = W.flatten(1)
    _, S, V = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    count = min(COMPONENTS if kernel.shape[-1] > 4 else len(V), len(V))
    shares = S.square() / S.square().sum().clamp(min=1e-30)
    return V[:count].view(count, *W.shape[1:]).numpy(), shares[:count].numpy()


@torch.no_grad()
def positions(model: ImageClassifier) -> Tensor | None:
    """Return the absolute position embedding of each patch, (N, D), if there is one."""
    size = model.image_size
    first = model.attention_layout(size, size).patches[0]
    front, tokens = len(first.prefix), first.rows * first.columns
    columns = getattr(model, "pos_embed_x", None)
    if isinstance(columns, Tensor):  # a vector for each row and one for each column
        rows = getattr(model, "pos_embed_y", None)
        assert isinstance(rows, Tensor)
        across = columns[0].repeat(first.rows, 1)
        return torch.cat([across, rows[0].repeat_interleave(first.columns, 0)], 1).double().cpu()
    for name in ("pos_embed", "patch_pos", "absolute_pos_embed"):
        table = getattr(model, name, None)
        if isinstance(table, Tensor):
            table = table.reshape(-1, table.shape[-1])
            return table[front if len(table) == front + tokens else 0 :].double().cpu()
    return None


def similarity(table: Tensor) -> Array:
    """Return the cosine of each position with each other. Shape: (N, D) -> (N, N)."""
    unit = nn.functional.normalize(table, dim=1)
    return (unit @ unit.T).numpy()


def nearness(cosines: Array, rows: int, columns: int) -> float:
    """Return the correlation of cosine with minus the distance: 1 if near positions are alike."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    apart = ~np.eye(len(y), dtype=bool)
    if cosines[apart].std() == 0:
        return 0.0
    return float(np.corrcoef(cosines[apart], -distance[apart])[0, 1])


@torch.no_grad()
def relative_biases(model: ImageClassifier) -> dict[str, Array]:
    """Return the bias for each offset of two tokens, of each block that has such a table.

    Shape: by module, (H, 2 * side - 1, 2 * side - 1), the offset 0 in the middle.
    """
    found = {}
    for name, module in model.named_modules():
        table = getattr(module, "relative_position_bias_table", None)
        if hasattr(module, "cpb_mlp"):  # version 2: a small network of the offset
            table = 16 * module.cpb_mlp(module.offsets).sigmoid()
        if isinstance(table, Tensor):
            side = round(len(table) ** 0.5)
            found[name] = table.double().T.reshape(-1, side, side).cpu().numpy()
    return found


def regions(windows: Windows) -> NDArray[np.int64]:
    """Number the groups of tokens that may meet, by the windows' own mask.

    Shape: -> (rows, columns); the largest group of each window is 0.
    """
    order = windows.order.cpu().view(-1, windows.side**2)  # (nW, n)
    numbers = torch.zeros(windows.height * windows.width + 1, dtype=torch.long)
    if windows.mask is not None:
        for tokens, mask in zip(order, windows.mask.cpu(), strict=True):
            groups = torch.unique(mask == 0, dim=0)  # a row for each group: its members
            ranked = sorted(groups, key=lambda members: -int(members.sum()))
            for number, members in enumerate(ranked):
                numbers[tokens[members]] = number
    return numbers[:-1].view(windows.height, windows.width).numpy()


def window_of(windows: Windows) -> NDArray[np.int64]:
    """Return the number of the window that each token is in. Shape: -> (rows, columns)."""
    order = windows.order.cpu()
    numbers = torch.zeros(windows.height * windows.width + 1, dtype=torch.long)
    numbers[order] = torch.arange(len(order)) // windows.side**2
    return numbers[:-1].view(windows.height, windows.width).numpy()
