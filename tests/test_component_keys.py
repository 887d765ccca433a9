"""Every key of every model, optimizer, schedule and loss changes what it computes.

The keys come from the signatures: a new one without a value here fails its test.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import stated, tiny
from tests.models.agreement import shaken
from vtrain.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, Registry

CLASSES = {MODELS[name].constructor: name for name in MODELS.names()}

MODEL_FLIPS = {
    "patch_size": 4,
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "qkv_bias": False,
    "position_embedding": "none",
    "class_position": False,
    "pooling": "mean",
    "num_registers": 1,
    "distillation_token": True,
    "layer_scale": 0.5,
    "drop_rate": 0.5,
    "drop_path_rate": 0.75,
    "drop_path_schedule": "linear",
}
"""The keys that families share, and ViT's; those of one family are in its own test's `FLIPS`."""
OTHERS: dict[str, Any] = {
    "drop_path_schedule": {"drop_path_rate": 0.75, "drop_path_schedule": "constant"},
    "class_position": {"class_position": True, "pooling": "cls"},
}
"""What must be set beside a key, and what its flip is compared with."""

OPTIMIZER_FLIPS = {
    "lr": 0.02,
    "weight_decay": 0.7,
    "betas": (0.5, 0.6),
    "eps": 0.1,
    "momentum": 0.5,
    "layer_decay": 0.5,
}
SCHEDULE_FLIPS = {
    "warmup_epochs": 1,
    "warmup_steps": 2,
    "warmup_start": 0.5,
    "floor": 0.3,
    "power": 3.0,
    "every_epochs": 2,
    "gamma": 0.7,
    "milestones": [2.0],
    "decay_fraction": 0.5,
    "warmup_fraction": 0.5,
}
LOSS_FLIPS = {
    "label_smoothing": 0.1,
    "class_weights": [1.0, 2.0, 3.0, 4.0],
    "binarize": False,
    "gamma": 3.0,
    "tau": 1.0,
    "pos_weight": 3.0,
    "gamma_neg": 2.0,
    "gamma_pos": 1.0,
    "clip": 0.2,
}


def keys_of(registry: Registry, names: list[str]) -> list[Any]:
    return [
        pytest.param(name, key, default, id=f"{name}-{key}")
        for name in names
        for key, _, default in registry[name].parameters()
    ]


def logits(name: str, **arguments: Any) -> tuple[list[tuple[str, torch.Size]], Tensor]:
    """The shapes of a model's weights, and what it computes in training."""
    model = shaken(tiny(name, **arguments)).train()
    torch.manual_seed(2)  # of dropout and drop path
    out = model(torch.linspace(-1, 1, 8 * 3 * 32 * 32).reshape(8, 3, 32, 32).sin())
    shapes = [(key, tensor.shape) for key, tensor in model.state_dict().items()]
    return shapes, out if isinstance(out, Tensor) else torch.stack(tuple(out))


@pytest.mark.parametrize(("name", "key", "_default"), keys_of(MODELS, list(CLASSES.values())))
def test_every_key_of_a_model_changes_its_weights_or_its_output(
    name: str, key: str, _default: object
) -> None:
    flips = {**MODEL_FLIPS, **stated(name, "FLIPS")}
    beside = OTHERS.get(key, {})
    shapes, before = logits(name, **beside)
    new_shapes, after = logits(name, **{**beside, key: flips[key]})
    assert new_shapes != shapes or not torch.allclose(after, before, atol=1e-6)


@pytest.mark.parametrize(("name", "key", "default"), keys_of(OPTIMIZERS, OPTIMIZERS.names()))
def test_every_key_of_an_optimizer_changes_the_weights(
    name: str, key: str, default: object
) -> None:
    weights = []
    flip = not default if key == "nesterov" else OPTIMIZER_FLIPS[key]
    for arguments in ({}, {key: flip}):
        model = tiny("vit_ti").train()
        optimizer = OPTIMIZERS[name](model, **{"lr": 0.01, **arguments})
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(4, 3, 32, 32)).square().sum().backward()
            optimizer.step()
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert not torch.allclose(*weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "key", "_default"), keys_of(SCHEDULES, SCHEDULES.names()))
def test_every_key_of_a_schedule_changes_the_factors(name: str, key: str, _default: object) -> None:
    keys = [k for k, _, _ in SCHEDULES[name].parameters()]
    base: dict[str, Any] = {"milestones": [3.0], "every_epochs": 1}  # the end is after 14 steps
    beside = {k: v for k, v in base.items() if k in keys}
    if key.startswith("warmup_") and "every_epochs" in keys:
        beside["every_epochs"] = 2  # the first drop must follow the warm-up
    if key == "warmup_start" and "warmup_steps" in keys:
        beside["warmup_steps"] = 2
    before, after = (
        SCHEDULES[name](14, 3, **arguments)
        for arguments in (beside, {**beside, key: SCHEDULE_FLIPS[key]})
    )
    assert [before(step) for step in range(14)] != [after(step) for step in range(14)]


@pytest.mark.parametrize(("name", "key", "_default"), keys_of(LOSSES, LOSSES.names()))
def test_every_key_of_a_loss_changes_the_loss(name: str, key: str, _default: object) -> None:
    scores, targets = torch.randn(6, 4), torch.randn(6, 4).softmax(1)  # mixed images
    before, after = (
        LOSSES[name]([3, 6, 9, 12], **arguments)(scores, targets)
        for arguments in ({}, {key: LOSS_FLIPS[key]})
    )
    assert not torch.isclose(before, after)
