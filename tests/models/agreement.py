"""Compare a model with another implementation of it."""

import torch
from torch import nn

from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS


def meta(name: str, **arguments: object) -> ImageClassifier:
    """Build a model without memory for its weights."""
    with torch.device("meta"):
        model: ImageClassifier = MODELS[name](**arguments)
    return model


def shaken(model: nn.Module) -> nn.Module:
    """Change every parameter, so that none has a start value that could hide a wrong one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


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
