"""The methods of `vtrain.explain` as the papers write them: whole matrices and loops, slowly."""

import torch
from torch import Tensor

from vtrain.explain.recording import Recording
from vtrain.models.layout import AttentionLayer


def whole(weights: Tensor, layer: AttentionLayer) -> Tensor:
    """Scatter the windows' matrices of one image, position by position. (nW, n, n) -> (N, N)."""
    if layer.windows is None:
        return weights[0]
    windows = layer.windows
    H, W, side, shift = windows.height, windows.width, windows.side, windows.shift
    padded_height, padded_width = H + -H % side, W + -W % side
    result = weights.new_zeros(H * W, H * W)
    across = padded_width // side

    def position(window: int, place: int) -> tuple[int, int]:
        """The token at a place of a window, by the roll that came before the cut."""
        y = window // across * side + place // side
        x = window % across * side + place % side
        return (y + shift) % padded_height, (x + shift) % padded_width

    for window in range(len(weights)):
        for q in range(side**2):
            for k in range(side**2):
                (y, x), (v, u) = position(window, q), position(window, k)
                if max(y, v) < H and max(x, u) < W:
                    result[y * W + x, v * W + u] = weights[window, q, k]
    return result


def merging(below: AttentionLayer, above: AttentionLayer) -> Tensor:
    """The matrix by which a merged token is the mean of those that it is made of."""
    matrix = torch.zeros(above.rows * above.columns, below.rows * below.columns)
    for y in range(below.rows):
        for x in range(below.columns):
            matrix[y // 2 * above.columns + x // 2, y * below.columns + x] = 1
    return matrix / matrix.sum(1, keepdim=True)


def head_row(recording: Recording) -> Tensor:
    """What the heads read of the last layer's tokens."""
    last = recording.layout.patches[-1]
    tokens = len(last.prefix) + last.rows * last.columns
    row = torch.zeros(tokens)
    if recording.layout.pooled:
        for name in recording.layout.pooled:
            row[last.prefix.index(name)] = 1 / len(recording.layout.pooled)
    else:
        row[len(last.prefix) :] = 1 / (last.rows * last.columns)
    return row


def product(recording: Recording, matrices: dict[str, Tensor]) -> Tensor:
    """Multiply the layers' matrices from the image up, with merging between, and read the map."""
    layers = recording.layout.patches
    first = layers[0]
    R = torch.eye(len(first.prefix) + first.rows * first.columns)
    below = first
    for layer in layers:
        if (layer.rows, layer.columns) != (below.rows, below.columns):
            R = merging(below, layer) @ R
        R = matrices[layer.module] @ R
        below = layer
    found = head_row(recording) @ R
    return found[len(first.prefix) :].view(first.rows, first.columns)


def rollout(recording: Recording, image: int) -> Tensor:
    """Abnar and Zuidema: a = rownorm(mean A + I), R = a_L ... a_1."""
    matrices = {}
    for layer in recording.layout.patches:
        A = whole(recording.of(layer)[image].mean(1), layer)
        a = A + torch.eye(len(A))
        matrices[layer.module] = a / a.sum(1, keepdim=True)
    return product(recording, matrices)


def relevance(recording: Recording, image: int, gradients: dict[str, Tensor]) -> Tensor:
    """Chefer et al.: R = I, R += mean_h relu(dA * A) R; gradients (B * nW, H, n, n)."""
    matrices, nothing = {}, {}
    for layer in recording.layout.patches:
        dA = recording.per_image(gradients[layer.module])[image]
        Abar = (dA * recording.of(layer)[image]).relu().mean(1)
        matrices[layer.module] = torch.eye(len(whole(Abar, layer))) + whole(Abar, layer)
        nothing[layer.module] = torch.eye(len(whole(Abar, layer)))
    return product(recording, matrices) - product(recording, nothing)
