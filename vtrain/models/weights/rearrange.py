"""Turn tensors that others lay out in another way into ours, once they have our names."""

import math
import re

import torch
from torch import Tensor

State = dict[str, Tensor]


def join_qkv(state: State) -> State:
    """Stack queries, keys and values into one matrix; SwinV2's keys have no bias."""
    joined = dict(state)
    for stem in [name.removesuffix("q.weight") for name in state if name.endswith(".q.weight")]:
        for kind in ("weight", "bias"):
            names = [f"{stem}{part}.{kind}" for part in "qkv"]
            if all(name in joined for name in names):
                joined[f"{stem}qkv.{kind}"] = torch.cat([joined.pop(name) for name in names])
        # Biases that are left: SwinV2 keeps the two apart, as ours does.
        if f"{stem}q.bias" in joined and f"{stem}v.bias" in joined:
            joined[f"{stem}q_bias"] = joined.pop(f"{stem}q.bias")
            joined[f"{stem}v_bias"] = joined.pop(f"{stem}v.bias")
    return joined


def split_v2_bias(state: State) -> State:
    """Keep the query and value parts of SwinV2's bias; torchvision zeroes the key part itself."""
    split = dict(state)
    for stem in [name.removesuffix("logit_scale") for name in state if "logit_scale" in name]:
        if stem + "qkv.bias" in split:
            # (3 * C,): queries, keys, values.
            q_bias, _, v_bias = split.pop(stem + "qkv.bias").chunk(3)
            split |= {stem + "q_bias": q_bias, stem + "v_bias": v_bias}
    return split


def split_in_proj(state: State) -> State:
    """Cut the queries and keys of torch's attention from its values, as TNT keeps them."""
    split: State = {}
    for name, tensor in state.items():
        if name.endswith(".in_proj_weight"):
            stem, third = name.removesuffix("in_proj_weight"), len(tensor) // 3
            split |= {
                f"{stem}qk.weight": tensor[: 2 * third],
                f"{stem}v.weight": tensor[2 * third :],
            }
        else:
            split[name] = tensor
    return split


def reshape_pixel_pos(state: State) -> State:
    """Reshape TNT's word positions. Shape: (1, m, c) -> (1, c, rows, columns), a square map."""
    positions = state.get("pixel_pos")
    if positions is None or positions.ndim != 3:
        return state
    side = math.isqrt(positions.shape[1])
    return {**state, "pixel_pos": positions.mT.reshape(1, -1, side, side)}


def merge_by_unfold(state: State) -> State:
    """Order the inputs of patch merging as ours: four patches, each of C channels.

    mmpretrain unfolds them: C channels, each of four patches, row by row. Ours go down each column.
    """
    ordered = dict(state)
    for name, tensor in state.items():
        stem = name.rpartition(".downsample.")[0]
        reduction = state.get(f"{stem}.downsample.reduction.weight")
        # A norm is either of what goes into the reduction or, in version 2, of what comes out.
        if (
            reduction is not None
            and ".downsample." in name
            and tensor.shape[-1] == reduction.shape[-1]
        ):
            patches = tensor.reshape(*tensor.shape[:-1], -1, 2, 2)  # (..., C, row, column)
            ordered[name] = patches.movedim(-3, -1).transpose(-2, -3).flatten(-3)
    return ordered


def from_kernels(state: State) -> State:
    """Turn the kernels of JAX, inputs before outputs, into weights; queries, keys, values joined.

    Shape: heads of their own, (D, H, d) and (H, d, D), become (D, D); (p, p, C, D) -> (D, C, p, p).
    """
    turned: State = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if kind == "kernel" and tensor.ndim == 4:
            turned[f"{stem}.weight"] = tensor.permute(3, 2, 0, 1).contiguous()
        elif kind == "kernel":
            flat = tensor.flatten(0, -2) if stem.endswith("attn.proj") else tensor.flatten(1)
            turned[f"{stem}.weight"] = flat.mT.contiguous()
        else:
            per_head = kind == "bias" and stem.endswith((".q", ".k", ".v"))
            turned[name] = tensor.flatten() if per_head else tensor
    if "pre_logits.weight" in turned:  # the head is of its output, which ours does not compute
        turned = {re.sub(r"^head\.", "pre_logits.head.", n): t for n, t in turned.items()}
    return join_qkv(turned)
