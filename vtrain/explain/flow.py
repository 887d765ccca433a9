"""Follow what the heads read back through attention, to the tokens of the image.

A row (B, n) says how much of each of a layer's tokens something is made of, the tokens in front of
the map first. One goes from the heads down: row @ a_L @ ... @ a_1 is the wanted row of the product
of all layers' matrices, and needs no product of two matrices. In windows it is exact, too: only
tokens of the same window meet.

B images, nW windows, n tokens of a window, H heads.
"""

import torch.nn.functional as F
from torch import Tensor

from vtrain.models.layout import AttentionLayer, AttentionLayout


def pooled_rows(layout: AttentionLayout, layer: AttentionLayer, like: Tensor) -> dict[str, Tensor]:
    """Return what the heads read of a layer's tokens: all of it first, then each token alone.

    Shape: `like` (B, ...) gives number, dtype and device -> by name, (B, tokens of the layer).
    """
    front, tokens = len(layer.prefix), layer.rows * layer.columns
    row = like.new_zeros(len(like), front + tokens)
    if not layout.pooled or layer.level == "words":
        row[:, front:] = 1 / tokens  # the mean of the map
        return {"": row}
    alone = {name: row.clone() for name in layout.pooled}
    for name in layout.pooled:
        alone[name][:, layer.prefix.index(name)] = 1
        row += alone[name] / len(layout.pooled)
    return {"": row} if len(alone) == 1 else {"both tokens": row} | alone


def split(row: Tensor, layer: AttentionLayer) -> Tensor:
    """Cut a row into windows; padding has none of it. Shape: (B, tokens) -> (B, nW, n)."""
    if layer.windows is None:
        return row[:, None]
    padded = F.pad(row, (0, 1))  # the place that the number of padding points to
    return padded[:, layer.windows.order].view(len(row), -1, layer.windows.side**2)


def join(row: Tensor, layer: AttentionLayer) -> Tensor:
    """Undo `split`; what is on padding is lost. Shape: (B, nW, n) -> (B, tokens)."""
    row = row.flatten(1)
    return row if layer.windows is None else row[:, layer.windows.inverse]


def without_padding(weights: Tensor, layer: AttentionLayer) -> Tensor:
    """Take away the attention to padding, which is no part of the image. Shape: (B, nW, n, n)."""
    if layer.windows is None:
        return weights
    is_token = layer.windows.order < layer.rows * layer.columns
    return weights * is_token.view(-1, 1, layer.windows.side**2)


def through(row: Tensor, matrix: Tensor, layer: AttentionLayer) -> Tensor:
    """Return row @ matrix. Shape: (B, tokens), (B, nW, n, n) -> (B, tokens)."""
    return join((split(row, layer)[:, :, None] @ matrix)[:, :, 0], layer)


def unmerged(row: Tensor, merged: AttentionLayer, larger: AttentionLayer) -> Tensor:
    """Share what a merged token has among the two by two that it is made of.

    At the border of an odd map there are fewer. Shape: (B, tokens of `merged`) -> (B, of `larger`).
    """
    if (merged.rows, merged.columns) == (larger.rows, larger.columns):
        return row
    ones = row.new_ones(1, larger.rows, larger.columns)
    odd = (0, larger.columns % 2, 0, larger.rows % 2)
    count = 4 * F.avg_pool2d(F.pad(ones, odd), 2)  # how many tokens are real: (1, rows, columns)
    shares = row.view(-1, merged.rows, merged.columns) / count
    shares = shares.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return shares[:, : larger.rows, : larger.columns].flatten(1)


def as_map(row: Tensor, layer: AttentionLayer) -> Tensor:
    """Return the part of a row that is on the map. Shape: (B, tokens) -> (B, rows, columns)."""
    return row[:, len(layer.prefix) :].reshape(-1, layer.rows, layer.columns)
