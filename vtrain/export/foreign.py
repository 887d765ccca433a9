"""A model in the words of other libraries: how they build it, and what they have no word for."""

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
class Words:
    """The class of a model, and every argument of its constructor."""

    kind: type[nn.Module]
    arguments: dict[str, Any]
    image_size: int
    num_classes: int
    in_channels: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> "Words":
        """Return the words of a loaded model."""
        described = loaded.checkpoint.model
        _, arguments = arguments_of(described)
        size, channels = described.image_size, described.in_channels
        return cls(type(loaded.model), arguments, size, len(loaded.classes), channels)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def refuse(self, library: Library, name: str, allowed: object) -> None:
        """Refuse a value of an argument that a library has no word for.

        Raises:
            ConfigError: The argument has another value than the one that is allowed.
        """
        value = self.arguments.get(name, allowed)
        if value != allowed:
            given = str(value).lower() if isinstance(value, bool) else value
            raise unspeakable(library, f"model.{name}={given}")

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Sides of the map and of its windows at each stage of a Swin."""
        side, pairs = self.image_size // self["patch_size"], []
        for _ in self["depths"]:
            pairs.append((side, min(side, self["window_size"])))
            # Merging halves the side, after padding an odd one.
            side = -(-side // 2)
        return tuple(pairs)


def unspeakable(library: Library, what: str) -> ConfigError:
    """Say that a library has no word for something."""
    return ConfigError(f"{TITLES[library]} has no word for {what}", "--format", "use --format onnx")


def timm_architecture(words: Words) -> tuple[str, dict[str, Any]]:
    """Return the name of a timm model of the same kind, and the arguments that make it the same.

    Raises:
        ConfigError: timm has no word for it.
    """
    # The names returned below only choose timm's class: the arguments override every size in them.
    arguments = {
        "img_size": words.image_size,
        "in_chans": words.in_channels,
        "patch_size": words["patch_size"],
        "embed_dim": words["embed_dim"],
        "mlp_ratio": words["mlp_ratio"],
    }
    if words.kind is ViT:
        return _timm_vit(words, arguments)
    if words.kind is TNT:
        legacy = words["layout"] == "legacy"
        arguments |= {
            "depth": words["depth"],
            "inner_dim": words["inner_dim"],
            "num_heads_inner": words["inner_num_heads"],
            "num_heads_outer": words["num_heads"],
            "first_stride": words["inner_stride"],
        }
        return f"tnt_s_{'legacy_' * legacy}patch16_224", arguments
    _refuse_windows("timm", words)
    if any(side > window and side % window for side, window in words.windows):
        raise unspeakable("timm", "windows that shift over a padded map: it shifts before it pads")
    arguments |= {name: list(words[name]) for name in ("depths", "num_heads")}
    arguments["window_size"] = words["window_size"]
    if words.kind is SwinV2:
        sizes = words["pretrained_window_sizes"] or [0] * len(words["depths"])
        return "swinv2_tiny_window8_256", {**arguments, "pretrained_window_sizes": list(sizes)}
    return "swin_tiny_patch4_window7_224", arguments


def _timm_vit(words: Words, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    arguments |= {name: words[name] for name in ("depth", "num_heads", "qkv_bias")}
    if words["layer_scale"]:
        arguments["init_values"] = words["layer_scale"]
    learned = words["position_embedding"] == "learned_1d"
    if words["distillation_token"]:
        words.refuse("timm", "num_registers", 0)
        words.refuse("timm", "class_position", True)
        words.refuse("timm", "position_embedding", "learned_1d")
        return "deit_tiny_distilled_patch16_224", arguments
    if words["position_embedding"] == "none":
        arguments["pos_embed"] = "none"
    elif not (learned and words["class_position"]):  # positions of patches alone
        arguments["no_embed_class"] = True
    if words["pooling"] == "mean":
        arguments |= {"global_pool": "avg", "class_token": False}
    if words["num_registers"]:
        arguments["reg_tokens"] = words["num_registers"]
    return "vit_tiny_patch16_224", arguments


def torchvision_model(words: Words) -> nn.Module:
    """Build the model of torchvision that computes the same, with new weights.

    Raises:
        ConfigError: torchvision has no word for it.
    """
    from torchvision.models import swin_transformer as tv
    from torchvision.models.vision_transformer import VisionTransformer

    if words.in_channels != 3:
        raise unspeakable("torchvision", f"{words.in_channels} channels")
    if words.kind is ViT:
        _refuse_tokens("torchvision", words)
        width = words["embed_dim"]
        vit: nn.Module = VisionTransformer(
            words.image_size,
            words["patch_size"],
            num_layers=words["depth"],
            num_heads=words["num_heads"],
            hidden_dim=width,
            mlp_dim=int(width * words["mlp_ratio"]),
            num_classes=words.num_classes,
        )
        return vit
    if words.kind is TNT:
        raise unspeakable("torchvision", "TNT")
    _refuse_windows("torchvision", words)
    if any(window != words["window_size"] for _, window in words.windows):
        raise unspeakable("torchvision", "windows that shrink to a small map: it pads the map")
    kind: Any = partial(tv.SwinTransformer)
    if words.kind is SwinV2:
        blocks = {"block": tv.SwinTransformerBlockV2, "downsample_layer": tv.PatchMergingV2}
        kind = partial(tv.SwinTransformer, **blocks)
    model: nn.Module = kind(
        [words["patch_size"]] * 2,
        words["embed_dim"],
        list(words["depths"]),
        list(words["num_heads"]),
        [words["window_size"]] * 2,
        mlp_ratio=words["mlp_ratio"],
        num_classes=words.num_classes,
    )
    return model


def check_hugging_face(words: Words) -> None:
    """Refuse what no class of transformers computes.

    Raises:
        ConfigError: It names the argument.
    """
    if words.kind is TNT:
        raise unspeakable("hf", "TNT")
    if words.kind is not ViT:
        _refuse_windows("hf", words)
        words.refuse("hf", "pretrained_window_sizes", None)
        return
    _refuse_tokens("hf", words, distilled=bool(words["distillation_token"]))


def _refuse_tokens(library: Library, words: Words, *, distilled: bool = False) -> None:
    words.refuse(library, "pooling", "cls")
    words.refuse(library, "num_registers", 0)
    words.refuse(library, "layer_scale", 0.0)
    words.refuse(library, "distillation_token", distilled)


def _refuse_windows(library: Library, words: Words) -> None:
    words.refuse(library, "window_shift", True)
    if words.kind is Swin:
        words.refuse(library, "relative_position_bias", True)
        words.refuse(library, "absolute_position_embedding", False)
