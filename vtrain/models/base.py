"""What every model of the zoo offers to the trainer, the weight loader and the profile."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vtrain.models.layout import AttentionLayout


class ImageClassifier(nn.Module, ABC):
    """An image classifier: features, then heads. Parameter names are timm's.

    Shape: images (B, in_channels, image_size, image_size) float -> logits (B, num_classes).
    """

    num_classes: int
    image_size: int
    in_channels: int
    no_weight_decay: frozenset[str] = frozenset()
    """Parameters that are never decayed, by full name or last component (1-D ones never are)."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing what is inside it."""

    @abstractmethod
    def forward_features(self, images: Tensor) -> Any:
        """Return what other tasks build on; each model states the shapes."""

    @abstractmethod
    def forward_head(self, features: Any) -> Any:
        """Turn `forward_features`' result into logits (B, num_classes)."""

    @abstractmethod
    def depth_groups(self) -> list[tuple[str, ...]]:
        """Return parameter-name prefixes from input to output.

        The first entry is the stem (patches, positions, tokens), then one entry for each block (the
        final norm goes with the last), and the last entry is the heads. Every parameter belongs to
        exactly one entry. Freezing and layer-wise learning rates follow this order.
        """

    @abstractmethod
    def attention_layout(self, height: int, width: int) -> AttentionLayout:
        """Return where the tokens that attend lie on images of this size, in pixels.

        It is of `forward_head(forward_features(images))`; `forward` may leave tokens out.
        """

    def forward(self, images: Tensor) -> Any:
        return self.forward_head(self.forward_features(images))

    def layer_id(self, name: str) -> int:
        """Return the index in `depth_groups` of the parameter called `name`: 0 is the stem."""
        for index, prefixes in enumerate(self.depth_groups()):
            # Whole components of a name: `blocks.1` is no prefix of `blocks.10`.
            if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
                return index
        raise ValueError(f"no entry of depth_groups covers the parameter {name}")

    def run_block(self, block: nn.Module, *args: Any) -> Any:
        """Call `block(*args)`, keeping only its inputs for backward under checkpointing."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            # Not the reentrant kind, which needs an input with a gradient: patches may be frozen.
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another size than the model was built for.

        Raises:
            ValueError: Channels, height or width differ.
        """
        expected = (self.in_channels, self.image_size, self.image_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images of shape {tuple(images.shape)} do not fit this model: it takes (B, "
                f"{', '.join(map(str, expected))}), set by in_channels and image_size"
            )


def learned(*shape: int, std: float = 0.02) -> nn.Parameter:
    """Return numbers to learn, drawn from a normal that is truncated at +-2."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=std))


def check_multiple(key: str, value: int, of: str, divisor: int) -> None:
    """Refuse a value that is no multiple of another one.

    Raises:
        ValueError: The message names both keys and their values.
    """
    if value % divisor:
        raise ValueError(f"{key} ({value}) must be a multiple of {of} ({divisor})")


def init_linear_layers(model: nn.Module) -> None:
    """Draw all linear weights from a normal of std 0.02 truncated at +-2; biases become 0.

    LayerNorms start as 1 and 0 and convolutions as the framework makes them. This is the
    initialisation of the reference code of ViT (timm), DeiT, TNT and Swin.
    """
    for module in model.modules():  # in the order of registration, which fixes the random draws
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def freeze(model: ImageClassifier, what: Literal["backbone"] | int) -> list[str]:
    """Exclude a model's lower part from training, and return the names of what was frozen.

    `backbone` leaves only the heads (a linear probe); a number N freezes the stem and the first N
    blocks.

    Raises:
        ValueError: The model has fewer blocks than `what`.
    """
    # The number of a block is its `layer_id`, as the stem has 0.
    blocks = len(model.depth_groups()) - 2  # without stem and heads
    if what == "backbone":
        what = blocks
    if not 0 <= what <= blocks:
        raise ValueError(f"freeze ({what}) must be backbone or at most the {blocks} blocks")
    frozen = [name for name, _ in model.named_parameters() if model.layer_id(name) <= what]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen
