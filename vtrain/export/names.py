"""Weights under the names of other libraries: `vtrain.models.weights` the other way round.

Positions that are computed, of rows and columns, or absent are written as what they come to, a
vector for each token; a bias that the model does not have is written as zeros.
"""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vtrain.export.foreign import Architecture, Library
from vtrain.models.swin_v2 import SwinV2
from vtrain.models.tnt import TNT
from vtrain.models.vit import ViT

State = dict[str, Tensor]
# Each pattern is applied to what those before it have left, so their order carries meaning.
Rename = tuple[str, str | Callable[[re.Match[str]], str]]

TORCHVISION_VIT: tuple[Rename, ...] = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^norm\.", "encoder.ln."),
    (r"^head\.", "heads.head."),
)
TORCHVISION_SWIN: tuple[Rename, ...] = (
    (r"^patch_embed\.proj\.", "features.0.0."),
    (r"^patch_embed\.norm\.", "features.0.2."),
    # Stages are 1, 3, 5, 7 of one list, with the merging between them at 2, 4, 6.
    (r"^layers\.(\d+)\.blocks\.(\d+)\.", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}."),
    (r"^layers\.(\d+)\.downsample\.", lambda m: f"features.{2 * int(m[1])}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^head\.fc\.", "head."),
)
HUGGING_FACE_BLOCK: tuple[Rename, ...] = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^norm\.", "layernorm."),
)
HUGGING_FACE_VIT: tuple[Rename, ...] = (
    *HUGGING_FACE_BLOCK,
    # The block's names have taken `attn.proj` away: queries, keys and values are left.
    (r"\.attn\.", ".attention.attention."),
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^dist_token$", "embeddings.distillation_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^blocks\.", "encoder.layer."),
)
HUGGING_FACE_SWIN: tuple[Rename, ...] = (
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    # The merging is at the end of the stage before.
    (r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample."),
    *HUGGING_FACE_BLOCK,
    (r"\.attn\.cpb_mlp\.", ".attn.continuous_position_bias_mlp."),
    (r"\.attn\.", ".attention.self."),
    (r"^layers\.", "encoder.layers."),
)


def foreign_state(state: State, arch: Architecture, library: Library) -> State:
    """Return a model's weights, with what it computes from others, under a library's names."""
    state = {name: tensor.detach() for name, tensor in state.items()}
    if arch.kind is ViT:
        state = _with_positions(state, arch, library)
    if arch.kind is TNT:
        state = _with_tnt_positions(state, arch)
    if library == "timm":
        return state
    if library == "torchvision":
        if arch.kind is ViT:
            # Zeros first: a bias that the model has replaces them.
            state = {**_zero_biases(state), **state}
            return _renamed(state, TORCHVISION_VIT)
        return _renamed(_joined_bias(state), TORCHVISION_SWIN)
    return _hugging_face(state, arch)


def explicit_arguments(arch: Architecture, library: Library) -> dict[str, Any]:
    """Return the arguments of a model that has all that `foreign_state` writes as parameters."""
    arguments = dict(arch.arguments)
    if arch.kind is ViT:
        if library != "timm":
            arguments |= {"position_embedding": "learned_1d", "class_position": True}
        elif arguments["position_embedding"] not in ("learned_1d", "none"):
            arguments |= {"position_embedding": "learned_1d", "class_position": False}
        if library == "torchvision":
            arguments["qkv_bias"] = True
    if arch.kind is TNT:
        arguments |= {"inner_position_embedding": True, "outer_position_embedding": True}
    return arguments


def _hugging_face(state: State, arch: Architecture) -> State:
    # Apart from the body: heads stand outside of its prefix.
    heads = {name: tensor for name, tensor in state.items() if name.startswith("head")}
    body = _split_qkv({name: tensor for name, tensor in state.items() if name not in heads})
    if arch.kind is not ViT:
        prefix = "swinv2." if arch.kind is SwinV2 else "swin."
        body = _renamed(body, HUGGING_FACE_SWIN)
        heads = _renamed(heads, ((r"^head\.fc\.", "classifier."),))
    else:
        distilled = arch["distillation_token"]
        prefix = "deit." if distilled else "vit."
        body = _renamed(body, HUGGING_FACE_VIT)
        first = "cls_classifier." if distilled else "classifier."
        names: tuple[Rename, ...] = (
            (r"^head\.", first),
            (r"^head_dist\.", "distillation_classifier."),
        )
        heads = _renamed(heads, names)
    return {**{prefix + name: tensor for name, tensor in body.items()}, **heads}


def _renamed(state: State, renames: tuple[Rename, ...]) -> State:
    for pattern, replacement in renames:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return state


def _with_positions(state: State, arch: Architecture, library: Library) -> State:
    """Give each token a learned position, whatever they are made of. Shape: (1, P + N, D)."""
    kind, width = arch["position_embedding"], arch["embed_dim"]
    grid = arch.image_size // arch["patch_size"]
    state = dict(state)
    if kind == "learned_1d" and arch["class_position"]:
        return state
    if kind == "none" and library == "timm":
        return state
    if kind == "learned_2d":
        columns, rows = state.pop("pos_embed_x"), state.pop("pos_embed_y")
        # As `ViT` adds them: patches go row by row, and the column's half comes first.
        parts = [columns.repeat(1, grid, 1), rows.repeat_interleave(grid, dim=1)]
        state["pos_embed"] = torch.cat(parts, dim=-1)
    elif kind == "sincos_2d":
        from vtrain.layers.position import sincos_2d

        state["pos_embed"] = sincos_2d(grid, width)
    elif kind == "none":
        state["pos_embed"] = torch.zeros(1, grid * grid, width)
    if library != "timm":  # which alone knows positions of patches alone
        prefix = torch.zeros(1, 1 + arch["distillation_token"], width)
        state["pos_embed"] = torch.cat([prefix, state["pos_embed"]], dim=1)
    return state


def _with_tnt_positions(state: State, arch: Architecture) -> State:
    grid = arch.image_size // arch["patch_size"]
    side = -(-arch["patch_size"] // arch["inner_stride"])
    zeros = {
        "pixel_pos": torch.zeros(1, arch["inner_dim"], side, side),
        "patch_pos": torch.zeros(1, 1 + grid * grid, arch["embed_dim"]),
    }
    # Positions that the model has replace the zeros.
    return {**zeros, **state}


def _zero_biases(state: State) -> State:
    """Return a bias of zeros for queries, keys and values that have none."""
    stems = [name.removesuffix("weight") for name in state if name.endswith(".attn.qkv.weight")]
    return {f"{stem}bias": torch.zeros(len(state[f"{stem}weight"])) for stem in stems}


def _joined_bias(state: State) -> State:
    """Join the biases of SwinV2's queries and values, with zeros for keys between them."""
    joined = dict(state)
    for name in [name for name in state if name.endswith(".attn.q_bias")]:
        stem = name.removesuffix("q_bias")
        q, v = joined.pop(name), joined.pop(f"{stem}v_bias")
        joined[f"{stem}qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return joined


def _split_qkv(state: State) -> State:
    """Give queries, keys and values names of their own."""
    split: State = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                split[name.replace(".qkv.", f".{part}.")] = piece
        else:
            name = re.sub(r"\.q_bias$", ".query.bias", name)  # noqa: PLW2901
            split[re.sub(r"\.v_bias$", ".value.bias", name)] = tensor
    return split
