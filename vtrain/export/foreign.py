"""The same architecture in other libraries: how they build it, and what they do not support."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from vtrain.errors import ConfigError
from vtrain.inference.loaded import LoadedModel, arguments_of
from vtrain.models.swin import Swin
from vtrain.models.swin_v2 import SwinV2
from vtrain.models.tnt import TNT
from vtrain.models.vit import ViT

Library = Literal["timm", "torchvision", "hf"]
TITLES = {"timm": "timm", "torchvision": "torchvision", "hf": "Hugging Face"}


@dataclass(frozen=True)
class Architecture:
    """The class of a model, and every argument of its constructor."""

    kind: type[nn.Module]
    arguments: dict[str, Any]
    image_size: int
    num_classes: int
    in_channels: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> "Architecture":
        """Return that of a loaded model."""
        described = loaded.checkpoint.model
        _, arguments = arguments_of(described)
        size, channels = described.image_size, described.in_channels
        return cls(type(loaded.model), arguments, size, len(loaded.classes), channels)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def refuse(self, library: Library, name: str, allowed: object) -> None:
        """Refuse a value of an argument that a library does not support.

        Raises:
            ConfigError: The argument has another value than the one that is allowed.
        """
        value = self.arguments.get(name, allowed)
        if value != allowed:
            given = str(value).lower() if isinstance(value, bool) else value
            raise unsupported(library, f"model.{name}={given}")

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Sides of the map and of its windows at each stage of a Swin."""
        side, pairs = self.image_size // self["patch_size"], []
        for _ in self["depths"]:
            pairs.append((side, min(side, self["window_size"])))
            # Merging halves the side, after padding an odd one.
            side = -(-side // 2)
        return tuple(pairs)


def unsupported(library: Library, what: str) -> ConfigError:
    """Say that a library does not support something."""
    return ConfigError(
        f"{TITLES[library]} does not support {what}", "--format", "use --format onnx"
    )


def timm_architecture(arch: Architecture) -> tuple[str, dict[str, Any]]:
    """Return the name of a timm model of the same kind, and the arguments that make it the same.

    Raises:
        ConfigError: timm does not support it.
    """
    # The names returned below only choose timm's class: the arguments override every size in them.
    arguments = {
        "img_size": arch.image_size,
        "in_chans": arch.in_channels,
        "patch_size": arch["patch_size"],
        "embed_dim": arch["embed_dim"],
        "mlp_ratio": arch["mlp_ratio"],
    }
    if arch.kind is ViT:
        return _timm_vit(arch, arguments)
    if arch.kind is TNT:
        legacy = arch["layout"] == "legacy"
        arguments |= {
            "depth": arch["depth"],
            "inner_dim": arch["inner_dim"],
            "num_heads_inner": arch["inner_num_heads"],
            "num_heads_outer": arch["num_heads"],
            "first_stride": arch["inner_stride"],
        }
        return f"tnt_s_{'legacy_' * legacy}patch16_224", arguments
    _refuse_windows("timm", arch)
    if any(side > window and side % window for side, window in arch.windows):
        raise unsupported("timm", "windows that shift over a padded map: it shifts before it pads")
    arguments |= {name: list(arch[name]) for name in ("depths", "num_heads")}
    arguments["window_size"] = arch["window_size"]
    if arch.kind is SwinV2:
        sizes = arch["pretrained_window_sizes"] or [0] * len(arch["depths"])
        return "swinv2_tiny_window8_256", {**arguments, "pretrained_window_sizes": list(sizes)}
    return "swin_tiny_patch4_window7_224", arguments


def _timm_vit(arch: Architecture, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments |= {name: arch[name] for name in ("depth", "num_heads", "qkv_bias")}
    if arch["layer_scale"]:
        arguments["init_values"] = arch["layer_scale"]
    learned = arch["position_embedding"] == "learned_1d"
    if arch["distillation_token"]:
        arch.refuse("timm", "num_registers", 0)
        arch.refuse("timm", "class_position", True)
        arch.refuse("timm", "position_embedding", "learned_1d")
        return "deit_tiny_distilled_patch16_224", arguments
    if arch["position_embedding"] == "none":
        arguments["pos_embed"] = "none"
    elif not (learned and arch["class_position"]):  # positions of patches alone
        arguments["no_embed_class"] = True
    if arch["pooling"] == "mean":
        arguments |= {"global_pool": "avg", "class_token": False}
    if arch["num_registers"]:
        arguments["reg_tokens"] = arch["num_registers"]
    return "vit_tiny_patch16_224", arguments


def torchvision_model(arch: Architecture) -> nn.Module:
    """Build the model of torchvision that computes the same, with new weights.

    Raises:
        ConfigError: torchvision does not support it.
    """
    from torchvision.models import swin_transformer as tv
    from torchvision.models.vision_transformer import VisionTransformer

    if arch.in_channels != 3:
        raise unsupported("torchvision", f"data.channels={arch.in_channels}")
    if arch.kind is ViT:
        _refuse_tokens("torchvision", arch)
        width = arch["embed_dim"]
        vit: nn.Module = VisionTransformer(
            arch.image_size,
            arch["patch_size"],
            num_layers=arch["depth"],
            num_heads=arch["num_heads"],
            hidden_dim=width,
            mlp_dim=int(width * arch["mlp_ratio"]),
            num_classes=arch.num_classes,
        )
        return vit
    if arch.kind is TNT:
        raise unsupported("torchvision", "TNT")
    _refuse_windows("torchvision", arch)
    if any(window != arch["window_size"] for _, window in arch.windows):
        raise unsupported("torchvision", "windows that shrink to a small map: it pads the map")
    kind: Any = partial(tv.SwinTransformer)
    if arch.kind is SwinV2:
        blocks = {"block": tv.SwinTransformerBlockV2, "downsample_layer": tv.PatchMergingV2}
        kind = partial(tv.SwinTransformer, **blocks)
    model: nn.Module = kind(
        [arch["patch_size"]] * 2,
        arch["embed_dim"],
        list(arch["depths"]),
        list(arch["num_heads"]),
        [arch["window_size"]] * 2,
        mlp_ratio=arch["mlp_ratio"],
        num_classes=arch.num_classes,
    )
    return model


def check_hugging_face(arch: Architecture) -> None:
    """Refuse what no class of transformers computes.

    Raises:
        ConfigError: It names the argument.
    """
    if arch.kind is TNT:
        raise unsupported("hf", "TNT")
    if arch.kind is not ViT:
        _refuse_windows("hf", arch)
        arch.refuse("hf", "pretrained_window_sizes", None)
        return
    _refuse_tokens("hf", arch, distilled=bool(arch["distillation_token"]))


def _refuse_tokens(library: Library, arch: Architecture, *, distilled: bool = False) -> None:
    arch.refuse(library, "pooling", "cls")
    arch.refuse(library, "num_registers", 0)
    arch.refuse(library, "layer_scale", 0.0)
    arch.refuse(library, "distillation_token", distilled)


def _refuse_windows(library: Library, arch: Architecture) -> None:
    arch.refuse(library, "window_shift", True)
    if arch.kind is Swin:
        arch.refuse(library, "relative_position_bias", True)
        arch.refuse(library, "absolute_position_embedding", False)
