"""Compare a model with another implementation of it."""

from functools import cache
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.conftest import tiny
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS


def meta(name: str, **arguments: object) -> ImageClassifier:
    """Build a model without memory for its weights."""
    with torch.device("meta"):
        model: ImageClassifier = MODELS[name](**arguments)
    return model


def parameter_count(model: nn.Module) -> int:
    """Count by the tensors themselves, not by vtrain's own function."""
    return sum(p.numel() for p in model.parameters())


def timm_swin(reference: str, **arguments: object) -> nn.Module:
    """timm's Swin, of either version, of the shape that `tiny` has."""
    shape = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    return timm.create_model(reference, num_classes=10, img_size=32, **shape, **arguments)


def shaken(model: nn.Module) -> nn.Module:
    """Change every parameter, so that none has a start value that could hide a wrong one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@cache
def same_as(name: str) -> str:
    """Return the first model that is the very same as this one when it is as small as in tests.

    Sizes of a family differ by their presets, which `TINY` replaces: same class, same modules with
    the same settings, same names and bits of all tensors. One export is that of them all.
    """
    return next(other for other in MODELS.names() if whole(other) == whole(name))


@cache
def whole(name: str) -> tuple[object, ...]:
    """Return all that makes a small model: its class, modules, settings and tensors."""
    model = tiny(name)
    plain = (bool, int, float, str, tuple, list, type(None))
    settings = [
        {key: value for key, value in vars(module).items() if isinstance(value, plain)}
        for module in model.modules()
    ]
    tensors = {key: value.numpy().tobytes() for key, value in model.state_dict().items()}
    return type(model), repr(model), settings, tensors


def assert_same_as_timm(ours: nn.Module, theirs: nn.Module, image_size: int) -> None:
    """Both compute the same logits and gradients from ours' weights, copied as they are."""
    shaken(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, image_size, image_size)
    given, expected = ours(images), theirs(images)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    direction = torch.randn_like(given)
    given.backward(direction)
    expected.backward(direction)
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        largest = parameter.grad.abs().max().item()
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=0, atol=1e-4 * largest)


def assert_loads_into_timm_and_back(name: str, theirs: nn.Module, folder: Path) -> None:
    """What `tiny(name)` saves loads into timm's model `theirs`, and what that saves loads back."""
    ours, again = tiny(name), tiny(name)
    save_file(shaken(ours).state_dict(), folder / "ours.safetensors")
    theirs.load_state_dict(load_file(folder / "ours.safetensors"), strict=True)
    save_file(theirs.state_dict(), folder / "theirs.safetensors")
    again.load_state_dict(load_file(folder / "theirs.safetensors"), strict=True)
    for first, second in zip(ours.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
