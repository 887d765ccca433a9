"""Fit what stands in front of the patches: class token, registers, their positions, the last norm.

They depend on what a model's head reads, and the same backbone serves both ways.
"""

import math

import torch
from torch import Tensor

from vtrain.models.weights.rearrange import State

PREFIX = ("cls_token", "dist_token", "reg_token")
"""In this order they stand in front of the patches."""


def arrange_positions(given: State, wanted: State) -> State:
    """Give the positions of a file, (1, P + N, D), the prefix of the model's; N stays the file's.

    A position of a token that the model has not is left out, one of a token that has none in the
    model is added to the token itself, and registers that have none (DINOv2) get zeros: the last
    two change nothing of what is computed. Where something else differs, nothing is done.
    """
    positions, target = given.get("pos_embed"), wanted.get("pos_embed")
    if positions is None or target is None or positions.ndim != 3 or target.ndim != 3:
        return given  # of another architecture
    ours, (own, grid) = _counts(wanted), _pieces(positions, _counts(given))
    if grid is None:
        return given
    # Only a prefix with rows of its own makes the number of the model's rows no square.
    if _is_square(target.shape[1]):
        moved = {name: given[name] + row for name, row in own.items() if name in ours}
        return {**given, **moved, "pos_embed": grid} if own else given
    if "reg_token" in ours and "reg_token" in _counts(given):
        own.setdefault("reg_token", torch.zeros_like(given["reg_token"]))
    if not ours.keys() <= own.keys() or positions.shape[1] == target.shape[1]:
        return given
    return {**given, "pos_embed": torch.cat([*(own[name] for name in ours), grid], dim=1)}


def _pieces(positions: Tensor, tokens: dict[str, int]) -> tuple[State, Tensor | None]:
    """Split positions into those of each kind of token and of the grid, which is a square.

    Either all tokens in front have positions, or all but the registers; if neither, nothing fits.
    """
    for layout in (tokens, {name: n for name, n in tokens.items() if name != "reg_token"}):
        grid = positions.shape[1] - sum(layout.values())
        if _is_square(grid):
            *rows, rest = torch.split(positions, [*layout.values(), grid], dim=1)
            return dict(zip(layout, rows, strict=True)), rest
    return {}, None


def _counts(state: State) -> dict[str, int]:
    """Return how many tokens of each kind are in front, without those that are not there."""
    width = state["pos_embed"].shape[-1]
    tokens = {n: state[n].shape for n in PREFIX if n in state and state[n].ndim == 3}
    return {name: shape[1] for name, shape in tokens.items() if shape[-1] == width}


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def other_pooling(given: State, wanted: State) -> bool:
    """Whether the file's last norm is for another kind of pooling than the model's.

    timm's names tell: `norm` is before the pooling, `fc_norm` behind it, as for a mean.
    """
    return {_last_norm(given), _last_norm(wanted)} == {"norm", "fc_norm"}


def _last_norm(state: State) -> str | None:
    norms = [n for n in ("norm", "fc_norm") if {f"{n}.weight", f"{n}.bias"} & state.keys()]
    return norms[0] if len(norms) == 1 else None
