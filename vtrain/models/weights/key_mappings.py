"""Key mappings: translate the names that others give to the same weights to ours, timm's.

Sources of the names: torchvision/models/{vision_transformer,swin_transformer}.py; the conversion
scripts of transformers, src/transformers/models/{vit,deit,swin,swinv2}/convert_*_to_pytorch.py;
github.com/facebookresearch/{deit,dino,dinov2,mae,moco-v3}; github.com/microsoft/{Swin-Transformer,
SimMIM}; tnt_pytorch/tnt.py of github.com/huawei-noah/Efficient-AI-Backbones; vit_jax/models_vit.py
of github.com/google-research/vision_transformer; mmpretrain/models/backbones of
github.com/open-mmlab/mmpretrain.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from vtrain.models.weights.rearrange import (
    State,
    from_kernels,
    join_qkv,
    merge_by_unfold,
    reshape_pixel_pos,
    split_in_proj,
    split_v2_bias,
)

Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class KeyMapping:
    """One way to name the weights of a model.

    Attributes:
        name: Whose it is.
        pattern: Matches one name of every such file, and none of the others'.
        renames: Patterns and what replaces them, in this order, on every name.
        rearrange: Turns the renamed tensors into ours.
        ignored: A pattern of renamed names that may hold nothing to load: buffers that are
            computed, layers that classification does not use, and those that another layout lacks.
        missing_ok: A pattern of our names that such a file never has; these weights stay new.
    """

    name: str
    pattern: str
    renames: tuple[Rename, ...] = ()
    rearrange: Callable[[State], State] = dict  # a copy, as they are
    ignored: str = r"(^|\.)(relative_position_index|relative_coords_table|attn_mask)$"
    missing_ok: str = r"$^"  # matches nothing


def translate(state: State) -> tuple[KeyMapping, State]:
    """Return the key mapping that `state` needs, and its tensors under our names."""
    # The first that matches: the last one, timm's, matches everything.
    mapping = next(m for m in KEY_MAPPINGS if any(re.search(m.pattern, name) for name in state))
    for pattern, replacement in mapping.renames:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return mapping, mapping.rearrange(state)


# Ours merges patches at the start of a stage, the official Swin at the end of the one before.
MERGE_AT_START: Rename = (
    r"^layers\.(\d+)\.downsample\.",
    lambda match: f"layers.{int(match[1]) + 1}.downsample.",
)
TORCHVISION_MLP: tuple[Rename, ...] = (
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
)

# transformers 5 renamed what is inside a block; its `save_pretrained` still writes the old names.
HUGGING_FACE_BLOCK: tuple[Rename, ...] = (
    (r"^(vit|deit|swin|swinv2|dinov2|dinov2_with_registers)\.", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(attention\.|self\.|relative_position_bias\.)?", ".attn."),
    (r"\.attn\.(q|k|v)(uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)

MMPRETRAIN_BLOCK: tuple[Rename, ...] = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)

KEY_MAPPINGS = (
    KeyMapping(
        "Google ViT",
        pattern=r"(^|/)encoderblock_0/",
        renames=(
            (r"/", "."),
            (r"^(opt\.target|params|params\.img)\.", ""),
            (r"^Transformer\.", ""),
            (r"^encoderblock_(\d+)\.", r"blocks.\1."),
            (r"\.LayerNorm_0\.", ".norm1."),
            (r"\.LayerNorm_[12]\.", ".norm2."),
            (r"\.MultiHeadDotProductAttention_\d\.", ".attn."),
            (r"\.attn\.(q|k|v)(uery|ey|alue)\.", r".attn.\1."),
            (r"\.attn\.out\.", ".attn.proj."),
            (r"\.MlpBlock_\d\.Dense_0\.", ".mlp.fc1."),
            (r"\.MlpBlock_\d\.Dense_1\.", ".mlp.fc2."),
            (r"^encoder_norm\.", "norm."),
            (r"\.scale$", ".weight"),
            (r"^(posembed_input\.)?pos_embedding$", "pos_embed"),
            (r"^cls$", "cls_token"),
            (r"^embedding\.", "patch_embed.proj."),
        ),
        rearrange=from_kernels,
        ignored=r"^pre_logits\.",
    ),
    KeyMapping(
        "torchvision ViT",
        pattern=r"^encoder\.layers\.encoder_layer_0\.",
        renames=(
            (r"^class_token$", "cls_token"),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            *TORCHVISION_MLP,
            (r"^encoder\.ln\.", "norm."),
            (r"^heads\.head\.", "head."),
        ),
    ),
    KeyMapping(
        "torchvision Swin",
        pattern=r"^features\.1\.0\.attn\.",
        # Stages are 1, 3, 5, 7 of one list, with the merging between them at 2, 4, 6.
        renames=(
            (r"^features\.0\.0\.", "patch_embed.proj."),
            (r"^features\.0\.2\.", "patch_embed.norm."),
            (r"^features\.(\d+)\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.{m[2]}."),
            (r"^features\.(\d+)\.", lambda m: f"layers.{int(m[1]) // 2}.downsample."),
            *TORCHVISION_MLP,
            (r"^head\.", "head.fc."),
        ),
        rearrange=split_v2_bias,
    ),
    # Its norms add 1e-12 to the variance by default, and ours 1e-6, as the code of the paper does.
    KeyMapping(
        "Hugging Face ViT",
        pattern=r"(^|\.)embeddings\.cls_token$",
        renames=(
            *HUGGING_FACE_BLOCK,
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.distillation_token$", "dist_token"),
            (r"^embeddings\.register_tokens$", "reg_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^(encoder\.layer|layers)\.", "blocks."),
            (r"^(cls_)?classifier\.", "head."),
            (r"^distillation_classifier\.", "head_dist."),
        ),
        rearrange=join_qkv,
        ignored=r"^(pooler\.|embeddings\.mask_token$|decoder\.)",  # the decoder of ViTMAE
    ),
    KeyMapping(
        "Hugging Face Swin",
        pattern=r"(^|\.)embeddings\.norm\.weight$",
        renames=(
            *HUGGING_FACE_BLOCK,
            (r"^embeddings\.norm\.", "patch_embed.norm."),
            (r"^embeddings\.position_embeddings$", "absolute_pos_embed"),
            (r"^encoder\.layers\.", "layers."),
            (r"\.continuous_position_bias_mlp\.", ".cpb_mlp."),
            MERGE_AT_START,
            (r"^classifier\.", "head.fc."),
        ),
        rearrange=join_qkv,
        # The decoder of masked image modelling.
        ignored=r"^decoder\.|(^embeddings\.mask_token|relative_position_index|relative_coords_table)$",
    ),
    KeyMapping(
        "mmpretrain ViT",
        pattern=r"^backbone\.layers\.0\.ln1\.",
        renames=(
            (r"^backbone\.layers\.", "blocks."),
            (r"^backbone\.ln1\.", "norm."),
            (r"^backbone\.ln2\.", "fc_norm."),
            (r"^backbone\.", ""),
            *MMPRETRAIN_BLOCK,
            (r"\.ln([12])\.", r".norm\1."),
            (r"\.(attn|ffn)\.gamma([12])\.weight$", r".ls\2.gamma"),
            (r"^head\.layers\.", ""),
            (r"^head\.fc\.", "head."),
        ),
        ignored=r"^(neck|data_preprocessor)\.",
    ),
    KeyMapping(
        "mmpretrain Swin",
        pattern=r"^backbone\.stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.bias$",
        renames=(
            (r"^backbone\.stages\.", "layers."),
            (r"^backbone\.norm\d\.", "norm."),  # of the last stage
            (r"^backbone\.", ""),
            *MMPRETRAIN_BLOCK,
            (r"\.w_msa\.", "."),
            MERGE_AT_START,
        ),
        rearrange=merge_by_unfold,
        ignored=r"^(neck|data_preprocessor)\.|(^|\.)(relative_position_index|attn_mask)$",
    ),
    # Its second version merges at the start of a stage, as ours does, and normalises afterwards.
    KeyMapping(
        "mmpretrain SwinV2",
        pattern=r"^backbone\.stages\.0\.blocks\.0\.attn\.w_msa\.logit_scale$",
        renames=(
            (r"^backbone\.stages\.", "layers."),
            (r"^backbone\.norm\d\.", "norm."),
            (r"^backbone\.", ""),
            *MMPRETRAIN_BLOCK,
            (r"\.w_msa\.", "."),
        ),
        rearrange=merge_by_unfold,
        ignored=r"^(neck|data_preprocessor)\.|(^|\.)(relative_position_index|relative_coords_table)$",
    ),
    # Of the function that timm's first port computes.
    KeyMapping(
        "mmpretrain TNT",
        pattern=r"^layers\.0\.inner_block\.",
        renames=(
            (r"^layers\.", "blocks."),
            (r"\.inner_block\.norm_attn\.", ".norm_in."),
            (r"\.inner_block\.norm_ffn\.", ".norm_mlp_in."),
            (r"\.outer_block\.norm_attn\.", ".norm_out."),
            (r"\.outer_block\.norm_ffn\.", ".norm_mlp."),
            (r"\.inner_block\.(.+)$", r".\1.inner"),
            (r"\.outer_block\.", "."),
            (r"\.attn\.attn\.(in_proj_weight|out_proj\.\w+)\.inner$", r".attn_in.\1"),
            (r"\.attn\.attn\.", ".attn_out."),
            (r"\.ffn\.layers\.0\.0\.(\w+)\.inner$", r".mlp_in.fc1.\1"),
            (r"\.ffn\.layers\.1\.(\w+)\.inner$", r".mlp_in.fc2.\1"),
            *MMPRETRAIN_BLOCK,
            (r"\.out_proj\.", ".proj."),
            (r"\.norm_proj\.", ".norm1_proj."),
            (r"(^|\.)projection\.", r"\1proj."),
            (r"^head\.fc\.", "head."),
        ),
        rearrange=split_in_proj,
        ignored=r"^(neck|data_preprocessor)\.",
    ),
    # Only its encoder classifies.
    KeyMapping("MAE", pattern=r"^decoder_pos_embed$", ignored=r"^(mask_token$|decoder_)"),
    # What it trains in place of a head projects to the space of its loss.
    KeyMapping("MoCo v3", pattern=r"^head\.0\.weight$", ignored=r"^head\.\d+\."),
    KeyMapping(
        "DeiT III official",
        pattern=r"^blocks\.0\.gamma_1$",
        renames=((r"\.gamma_([12])$", r".ls\1.gamma"),),
    ),
    KeyMapping(
        "Swin official",
        pattern=r"^layers\.0\.downsample\.",
        renames=(MERGE_AT_START, (r"^head\.", "head.fc.")),
        # `mask_token` is SimMIM's, which gives it in place of the patches that it hides.
        ignored=r"(^|\.)(relative_position_index|relative_coords_table|attn_mask|mask_token)$",
    ),
    KeyMapping(
        "TNT official",
        pattern=r"^outer_pos$",
        renames=(
            (r"^outer_pos$", "patch_pos"),
            (r"^inner_pos$", "pixel_pos"),
            (r"^patch_embed\.", "pixel_embed."),
            (r"(^|\.)proj_norm([12])\.", r"\1norm\2_proj."),
            (r"\.inner_norm1\.", ".norm_in."),
            (r"\.inner_norm2\.", ".norm_mlp_in."),
            (r"\.inner_(attn|mlp)\.", r".\1_in."),
            (r"\.outer_norm1\.", ".norm_out."),
            (r"\.outer_norm2\.", ".norm_mlp."),
            (r"\.outer_attn\.", ".attn_out."),
            (r"\.outer_mlp\.", ".mlp."),
        ),
        rearrange=reshape_pixel_pos,
        ignored=r"^outer_tokens$",  # registered by the reference code, used by nothing
    ),
    # Another function: words across patch borders, a norm for each word, none after the projection.
    # A model of the legacy layout takes all; the official one, as a start, what both layouts have.
    KeyMapping(
        "TNT legacy",
        pattern=r"^blocks\.0\.proj\.bias$",
        ignored=r"^blocks\.\d+\.(norm1_proj\.|proj\.bias$)",
        missing_ok=r"^blocks\.\d+\.norm[12]_proj\.",
    ),
    KeyMapping(
        "DINOv2",
        pattern=r"^(register_tokens|mask_token|blocks\.0\.0\.norm1\.weight)$",
        renames=(
            (r"^register_tokens$", "reg_token"),
            (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # in chunks, but counted through
        ),
        ignored=r"^mask_token$",  # only pre-training hides patches
    ),
    KeyMapping("timm", pattern=r""),
)
