"""Fit what stands in front of the patches: class token, registers, their positions, the last norm.

They depend on what a model's head reads, and the same backbone serves both ways.
"""

import math

import torch
from torch import Tensor

State = dict[str, Tensor]
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
        return given
    theirs, ours = _counts(given), _counts(wanted)
    rows = positions.shape[1]
    layouts = (theirs, {n: count for n, count in theirs.items() if n != "reg_token"})
    layout = next((one for one in layouts if _is_square(rows - sum(one.values()))), None)
    if layout is None:
        return given
    placed = target.shape[1] != math.isqrt(target.shape[1]) ** 2  # the model's prefix has rows
    if not placed and not layout:
        return given
    sizes = [*layout.values(), rows - sum(layout.values())]
    *pieces, grid = torch.split(positions, sizes, dim=1)
    own = dict(zip(layout, pieces, strict=True))
    arranged = dict(given)
    if not placed:
        # Each token then starts with its position, as in DeiT III.
        arranged |= {n: given[n] + row for n, row in own.items() if n in ours}
        return arranged | {"pos_embed": grid}
    if "reg_token" in theirs and theirs.get("reg_token") == ours.get("reg_token"):
        own.setdefault("reg_token", torch.zeros_like(grid[:, :1]).expand(-1, ours["reg_token"], -1))
    if own.keys() < ours.keys() or layout == ours:
        return given
    return arranged | {"pos_embed": torch.cat([*(own[name] for name in ours), grid], dim=1)}


def _counts(state: State) -> dict[str, int]:
    """Return how many tokens of each kind are in front, without those that are not there."""
    return {n: state[n].shape[1] for n in PREFIX if n in state and state[n].ndim == 3}


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
