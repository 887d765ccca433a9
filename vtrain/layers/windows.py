"""Windows over a feature map: how Swin cuts a map, which tokens meet, and how far apart they are.

Reference: Liu et al., "Swin Transformer", arXiv:2103.14030, section 3.2
(github.com/microsoft/Swin-Transformer; padding as in its object detection code).

B images, H x W tokens of a map, C channels, nW windows, N tokens of a window,
h heads, d head dimension.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.layers.attention import self_attend
from vtrain.layers.constant import constant


class Windows(nn.Module):
    """Cut maps of one size into square windows, and put them together again.

    The map is padded with zeros below and on the right to a multiple of `side`, rolled up and left
    by `shift`, and cut. All of that is one order of the tokens, computed here once, so that each
    direction is a single copy; padding, two rolls and the cut would be up to four. (timm rolls
    before it pads, which is another function where a map needs both.)

    Attributes:
        mask: What to add to the attention scores of each window, (nW, N, N): 0, or -100 between
            tokens that only the roll brought together; None without a shift.
    """

    order: Tensor
    inverse: Tensor
    mask: Tensor | None

    def __init__(self, height: int, width: int, side: int, shift: int = 0) -> None:
        super().__init__()
        self.height, self.width, self.side, self.shift = height, width, side, shift
        down, right = -height % side, -width % side
        tall, wide = height + down, width + right

        def places() -> Tensor:
            tokens = torch.arange(height * width).view(height, width)
            tokens = F.pad(tokens, (0, right, 0, down), value=height * width)
            return cut_windows(tokens.roll((-shift, -shift), (0, 1)), side).flatten()

        order = constant((tall * wide,), torch.int64, places)
        # One window, or a column of them: the tokens are in order as they are.
        self.is_identity = width == side and not (down or shift)
        # The token at each place of the windows (H * W is padding), and the place of each token:
        # padding has the largest number, so it is last when the places are sorted by token.
        # Both move with the model, but belong in no checkpoint.
        self.register_buffer("order", order, persistent=False)
        # A copy: a part of a tensor makes torch.export warn when it is saved.
        inverse = order.argsort()[: height * width].clone()
        self.register_buffer("inverse", inverse, persistent=False)
        mask = None
        if shift:
            shape = (tall // side * (wide // side), side**2, side**2)
            dtype = torch.get_default_dtype()
            mask = constant(shape, dtype, lambda: shift_mask(tall, wide, side, shift))
        self.register_buffer("mask", mask, persistent=False)

    def split(self, x: Tensor) -> Tensor:
        """Cut maps into windows. Shape: (B, H, W, C) -> (B, nW, N, C)."""
        tokens = x.flatten(1, 2)
        if not self.is_identity:
            tokens = reorder(tokens, self.order, self.inverse)
        return tokens.reshape(x.shape[0], -1, self.side**2, x.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """Undo `split`. Shape: (B, nW, N, C) -> (B, H, W, C)."""
        tokens = windows.flatten(1, 2)
        if not self.is_identity:
            tokens = reorder(tokens, self.inverse, self.order)
        return tokens.reshape(tokens.shape[0], self.height, self.width, -1)


class RelativeBias(nn.Module):
    """Give each pair of tokens in a window the bias of the offset between them.

    Args:
        side: Tokens per side of the largest window. A smaller one is a corner of it: its offsets
            are among those of the largest, and keep their bias.
    """

    index: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        shape = (side**2, side**2)
        index = constant(shape, torch.int64, lambda: relative_position_index(side))
        self.register_buffer("index", index, persistent=False)

    def forward(self, table: Tensor, side: int) -> Tensor:
        """Look up the biases of windows of `side`. Shape: ((2 * side - 1)**2, h) -> (h, N, N)."""
        index = self.index.view((self.side,) * 4)[:side, :side, :side, :side]
        # At least in fp32: the gradient of a bias is the sum of up to N numbers, added one by one.
        table = table.to(torch.promote_types(table.dtype, torch.float32))
        return table.t()[:, index.reshape(side**2, side**2)]


class WindowPair(nn.Module):
    """The plain and the shifted windows of a stage, made once for each size of its map.

    On a map whose shorter side is at most `side` the windows shrink to that shorter side and are
    not shifted, else the second by half a side if `shifted`. The windows for the size that the
    model is configured for, `height` x `width`, are made at once.
    """

    def __init__(self, height: int, width: int, side: int, shifted: bool) -> None:
        super().__init__()
        self.side, self.shifted = side, shifted
        self.sizes = nn.ModuleDict({f"{height}x{width}": self.make(height, width)})

    def for_map(self, height: int, width: int, device: torch.device) -> nn.ModuleList:
        """Return the `Windows` of even and of odd blocks on maps of this size."""
        key = f"{height}x{width}"
        if key in self.sizes:
            pair = self.sizes[key]
        else:
            pair = self.make(height, width).to(device)
            if not torch.compiler.is_compiling():  # a traced tensor must not outlive its trace
                self.sizes[key] = pair
        assert isinstance(pair, nn.ModuleList)
        return pair

    def make(self, height: int, width: int) -> nn.ModuleList:
        side = min(self.side, height, width)
        shift = side // 2 if self.shifted and min(height, width) > side else 0
        with torch.inference_mode(False):  # else training could not use what evaluation made
            return nn.ModuleList(Windows(height, width, side, by) for by in (0, shift))


def attend_in_windows(
    qkv: Tensor,
    num_heads: int,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None = None,
) -> Tensor:
    """Let the tokens of each window attend to one another; heads end up side by side.

    `scale` of the products is 1 / sqrt(d) unless given.

    Shape: qkv (B, nW, N, 3 * h * d), queries, keys and values side by side, bias (h, N, N), mask
    (nW, N, N) -> (B, nW, N, h * d).
    """
    if mask is not None:  # differs between windows, but not between images
        masks = mask[:, None].expand(-1, num_heads, -1, -1)
        bias = masks if bias is None else masks + bias
    elif bias is not None:
        bias = bias[None]
    return self_attend(qkv.flatten(0, 1), num_heads, bias, scale).view(*qkv.shape[:3], -1)


def cut_windows(x: Tensor, side: int) -> Tensor:
    """Cut a map whose sides are multiples of `side`. Shape: (H, W) -> (nW, side * side)."""
    H, W = x.shape
    return x.view(H // side, side, W // side, side).transpose(1, 2).reshape(-1, side * side)


def shift_mask(height: int, width: int, side: int, shift: int) -> Tensor:
    """Separate what a roll by `shift` brought together. Shape: -> (nW, N, N), 0 or -100.

    After the roll the last `shift` rows and columns come from the opposite border. They share
    windows with tokens that they must not attend to; -100 is what the official code adds in place
    of minus infinity.
    """
    below = torch.arange(height) >= height - shift
    beside = torch.arange(width) >= width - shift
    # Up to four regions, 0 to 3: only tokens of the same one may attend to each other.
    regions = cut_windows(2 * below[:, None] + beside.long(), side)
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, -100.0)


def relative_position_index(side: int) -> Tensor:
    """Number the offsets between the tokens of a window, (query, key).

    Offset (dy, dx) of the query from the key, both from 1 - side to side - 1, has the number
    (dy + side - 1) * (2 * side - 1) + dx + side - 1.

    Shape: -> (N, N) int64.
    """
    row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
    dy, dx = (axis[:, None] - axis[None, :] + side - 1 for axis in (row, column))
    return dy * (2 * side - 1) + dx


def reorder(tokens: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return `tokens[:, order]`, where an index one past the last token stands for a zero.

    Shape: tokens (B, L, C), order (M,), inverse (L,) -> (B, M, C).
    """
    result: Tensor = _Reorder.apply(tokens, order, inverse)
    return result


class _Reorder(torch.autograd.Function):
    """Gather tokens, with a gradient that is a gather too.

    Autograd's own rule for indexing adds into zeros, which is slower than a copy and on CUDA not
    deterministic. No token has two places, so the gradient is the reordering the other way.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        if len(order) > tokens.shape[1]:  # padded windows: one token of zeros to point to
            tokens = F.pad(tokens, (0, 0, 0, 1))
        return tokens.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return reorder(grad, inverse, order), None, None
