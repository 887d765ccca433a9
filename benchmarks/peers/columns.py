"""Which programs are compared, with which switches, and the same models under everybody's names."""

from dataclasses import dataclass, field
from typing import Any

SMALL = {"image_size": 32, "batch_size": 128}
LARGE = {"image_size": 224, "batch_size": 32}


@dataclass(frozen=True)
class Work:
    """One model and how every program calls it: the constructor's name and its arguments."""

    title: str
    image_size: int
    batch_size: int
    vtrain: tuple[str, dict[str, Any]]
    timm: tuple[str, dict[str, Any]]
    torchvision: tuple[str, dict[str, Any]] | None = None
    transformers: tuple[str, dict[str, Any]] | None = None

    def named(self, program: str) -> tuple[str, dict[str, Any]] | None:
        """Return the model's name and arguments in a program; None where it has no such model."""
        # Lightning trains timm's models.
        model: tuple[str, dict[str, Any]] | None = getattr(
            self, "timm" if program == "lightning" else program
        )
        return model


@dataclass(frozen=True)
class Column:
    """One program with one set of switches, which is trained by a process of its own."""

    title: str
    program: str
    fast: bool = False
    compile: bool = False
    workers: int = 0
    env: dict[str, str] = field(default_factory=dict)
    about: str = ""


COLUMNS = [
    Column("vtrain", "vtrain", about="default settings"),
    Column("vtrain again", "vtrain", about="a second process of the same: the noise"),
    Column("timm default", "timm", workers=4, about="fp32, 4 workers, as its script's defaults"),
    Column(
        "timm best",
        "timm",
        fast=True,
        workers=1,
        env={"TIMM_FUSED_ATTN": "2"},
        about="bf16 where it is fast, every fused attention, fused AdamW, 1 worker",
    ),
    Column(
        "timm best, attention fusion off",
        "timm",
        fast=True,
        workers=1,
        env={"TIMM_FUSED_ATTN": "0"},
        about="the same with plain attention, which timm does not suggest",
    ),
    Column(
        "timm best, compiled",
        "timm",
        fast=True,
        compile=True,
        workers=1,
        env={"TIMM_FUSED_ATTN": "2"},
        about="timm best with torch.compile and channels_last",
    ),
    Column("torchvision default", "torchvision", workers=2, about="fp32, 2 workers"),
    Column(
        "torchvision best",
        "torchvision",
        fast=True,
        workers=1,
        about="bf16 where it is fast, fused AdamW, 1 worker that stays",
    ),
    Column("lightning default", "lightning", about="timm's model, fp32, no worker"),
    Column(
        "lightning best",
        "lightning",
        fast=True,
        workers=1,
        about="timm's model, bf16 where it is fast, fused AdamW, 1 worker that stays",
    ),
    Column(
        "transformers default",
        "transformers",
        about="Hugging Face Trainer and its own model, fp32, no worker",
    ),
    Column(
        "transformers best",
        "transformers",
        fast=True,
        workers=1,
        about="the same, bf16 where it is fast, 1 worker that stays; fused AdamW is its default",
    ),
]


def vit(title: str, vtrain: str, timm: str, patch: int, width: int, **size: int) -> Work:
    """Return a ViT of depth 12 with heads of 64."""
    heads, hidden = width // 64, 4 * width
    tv = {
        "patch_size": patch,
        "num_layers": 12,
        "num_heads": heads,
        "hidden_dim": width,
        "mlp_dim": hidden,
    }
    hf = {
        "patch_size": patch,
        "num_hidden_layers": 12,
        "num_attention_heads": heads,
        "hidden_size": width,
        "intermediate_size": hidden,
        "layer_norm_eps": 1e-6,
    }
    return Work(
        title,
        vtrain=(vtrain, {"patch_size": patch}),
        timm=(timm, {"patch_size": patch}),
        torchvision=("VisionTransformer", tv),
        transformers=("ViT", hf),
        **size,
    )


def swin(title: str, patch: int, window: int, **size: int) -> Work:
    """Return a Swin-T. Drop path is off: what is dropped differs, and so would the first losses."""
    shape = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
    tv = {
        **shape,
        "patch_size": [patch] * 2,
        "window_size": [window] * 2,
        "stochastic_depth_prob": 0.0,
    }
    hf = {**shape, "patch_size": patch, "window_size": window, "drop_path_rate": 0.0}
    # On a last map that is smaller than a window torchvision pads it, and transformers fails.
    fits = size["image_size"] // patch // 8 >= window
    arguments = {"patch_size": patch, "window_size": window, "drop_path_rate": 0.0}
    return Work(
        title,
        vtrain=("swin_t", arguments),
        timm=("swin_tiny_patch4_window7_224", arguments),
        torchvision=("SwinTransformer", tv) if fits else None,
        transformers=("Swin", hf) if fits else None,
        **size,
    )


WORKS = {
    "vit_ti": vit("ViT-Ti/4", "vit_ti", "vit_tiny_patch16_224", 4, 192, **SMALL),
    "swin_t": swin("Swin-T, patch 2, window 4", 2, 4, **SMALL),
    "tnt_ti": Work(
        "TNT-Ti/8, inner stride 2",
        vtrain=("tnt_ti", {"patch_size": 8, "inner_stride": 2}),
        timm=(
            "tnt_s_patch16_224",
            {
                "patch_size": 8,
                "first_stride": 2,
                "embed_dim": 192,
                "inner_dim": 12,
                "num_heads_outer": 3,
                "num_heads_inner": 2,
            },
        ),
        **SMALL,
    ),
    "vit_s_224": vit("ViT-S/16", "vit_s", "vit_small_patch16_224", 16, 384, **LARGE),
    "swin_t_224": swin("Swin-T, patch 4, window 7", 4, 7, **LARGE),
}
