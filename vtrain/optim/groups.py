"""Which parameters are decayed, and how fast each layer learns."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

Group = dict[str, Any]


def param_groups(
    model: nn.Module, weight_decay: float, layer_decay: float | None = None
) -> list[Group]:
    """Split the trainable parameters by weight decay and by learning-rate scale.

    Vectors (biases, norm scales) and the names in `model.no_weight_decay`, full or last component,
    are not decayed. With `layer_decay` d, layer l of L learns at d**(L - l) times the rate, where
    `model.layer_id(name)` is 0 for the patch embedding and L, the largest, for the head (Clark et
    al., ELECTRA, arXiv:2003.10555; Bao et al., BEiT, arXiv:2106.08254).

    Returns:
        One group for each (decay, scale) that occurs, in the order of the parameters. `lr_scale`
        multiplies the learning rate; `names` says what the group holds.
    """
    names = [name for name, _ in model.named_parameters()]
    depth = layer_ids(model, names) if layer_decay is not None else dict.fromkeys(names, 0)
    last = max(depth.values(), default=0)
    groups: dict[tuple[bool, int], Group] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Biases and norm scales are vectors: no recipe of the zoo decays them.
        decayed = parameter.ndim > 1 and not is_exempt(model, name)
        group = groups.setdefault(
            (decayed, depth[name]),  # without layer_decay every depth is 0: two groups at most
            {
                "params": [],
                "names": [],
                "weight_decay": weight_decay if decayed else 0.0,
                "lr_scale": 1.0 if layer_decay is None else layer_decay ** (last - depth[name]),
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("model.freeze leaves no parameter to train")
    return list(groups.values())


def is_exempt(model: nn.Module, name: str) -> bool:
    """Return whether the model asks that the parameter called `name` is not decayed."""
    exempt = cast(frozenset[str], getattr(model, "no_weight_decay", frozenset()))
    return name in exempt or name.rpartition(".")[2] in exempt


def layer_ids(model: nn.Module, names: list[str]) -> dict[str, int]:
    """Return the depth at which each parameter sits: 0 at the image, the largest at the head.

    Raises:
        ValueError: The model does not say.
    """
    layer_id = cast(Callable[[str], int] | None, getattr(model, "layer_id", None))
    if layer_id is None:
        raise ValueError(f"layer_decay needs the layers of {type(model).__name__} to be numbered")
    return {name: layer_id(name) for name in names}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate of this step."""
    for group in optimizer.param_groups:
        rate = lr * group["lr_scale"]
        if isinstance(group["lr"], Tensor):  # which a recorded step reads
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
