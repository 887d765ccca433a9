"""What `vtrain explain` is asked, held against the model that shall answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtrain.errors import CheckpointError, ConfigError
from vtrain.explain.methods import METHODS, automatic, check_request
from vtrain.inference.loaded import LoadedModel
from vtrain.registry import suggest

LOOKED_AT = {"target": "of_class", "layer": "takes_layer", "head": "takes_head"}
"""Options, and the attribute of a method that says whether it looks at them."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
        method: A key of `METHODS`, or `auto`.
        targets: Names of classes; none means the likeliest class of each image.
        layer: See `Request`, also for the next one.
        head: See there.
    """

    method: str = "auto"
    targets: Sequence[str] = ()
    layer: int | None = None
    head: int | None = None

    def named(self, method: str) -> str:
        """Return a method with the block and the head that were chosen, if any were."""
        chosen = {"block": self.layer, "head": self.head}
        said = [f"{name} {number}" for name, number in chosen.items() if number is not None]
        return f"{method} ({', '.join(said)})" if said else method


def method_of(loaded: LoadedModel, question: Question) -> str:
    """Return the method to use, and refuse what it would ignore and what does not exist.

    Raises:
        ConfigError: It says which.
    """
    size, method = loaded.geometry.image_size, question.method
    if method == "auto":
        # A block or a head is a question to the attention of one block.
        of_block = question.layer is not None or question.head is not None
        layout = loaded.model.attention_layout(size, size)
        method = "attention" if of_block else automatic(layout, bool(question.targets))
    given = {
        "target": bool(question.targets),
        "layer": question.layer is not None,
        "head": question.head is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        if not getattr(METHODS[method], LOOKED_AT[name]):
            able = [key for key, one in METHODS.items() if getattr(one, LOOKED_AT[name])]
            what = f"--{name} has no effect with --method {method}"
            raise ConfigError(what, "command line", f"use --method {' or '.join(able)}")
    for name in question.targets:
        if name not in loaded.classes:
            what = f"--target '{name}' is no class of this model"
            raise ConfigError(what, loaded.path, suggest(name, list(loaded.classes)))
    check_request(loaded.model, question.layer, question.head)
    return method


def finite_logits(loaded: LoadedModel, images: Tensor) -> Tensor:
    """Ask a model for logits, in fp32, to explain. Shape: normalised images (B, C, S, S) -> (B, K).

    Raises:
        CheckpointError: They are not finite.
    """
    # Without gradients: a method that needs them makes a pass of its own.
    with torch.no_grad():
        logits: Tensor = loaded.model(images).float()
    if not logits.isfinite().all():
        what = "the model's logits are not finite, so that nothing explains them"
        raise CheckpointError(what, loaded.path)
    return logits


def targets_of(loaded: LoadedModel, logits: Tensor, names: Sequence[str]) -> Tensor:
    """Return the classes to explain: those named, else the likeliest. Shape: (B, K) -> (B, T)."""
    if not names:
        return logits.argmax(1, keepdim=True)
    numbers = [loaded.classes.index(name) for name in names]
    return torch.tensor(numbers, device=logits.device).expand(len(logits), -1)
