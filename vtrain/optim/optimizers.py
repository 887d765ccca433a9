"""Optimizers, each with the model's wishes about weight decay and the layers' learning rates.

A constructor takes the model and returns a `torch.optim.Optimizer` whose groups carry `lr_scale`;
`groups.set_lr` sets the rate of a step. `grouped` makes the groups for all of them.

Schedule-free AdamW (Defazio et al., arXiv:2405.15682) is left out. It trains at one point and is
evaluated and saved at another, and the library that has it (schedulefree; its newest release is
1.4.1) exchanges the two in place: evaluation, checkpoints, averages and sharded models would each
have to know. For a run whose end is open there are the schedules `constant` and
`warmup_stable_decay`, with `train.ema_decay`.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.optim import Optimizer

from vtrain.optim.groups import Group, is_exempt, layer_ids, param_groups
from vtrain.optim.signature import compose_signature
from vtrain.registry import CHANGEABLE_ON_RESUME, OPTIMIZERS, Probability

# What a key means stands at its type where several constructors share it.
LearningRate = Annotated[
    PositiveFloat,
    CHANGEABLE_ON_RESUME,
    Field(description="Base learning rate: the largest, which the schedule scales down."),
]
WeightDecay = Annotated[
    NonNegativeFloat,
    Field(
        description="Weight decay of matrices; biases, norms and what the model names have none."
    ),
]
LayerDecay = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Learning rate of a layer as a fraction of the next one's, from the head down; "
        "null gives all layers the same. For fine-tuning (arXiv:2106.08254).",
    ),
]
Betas = Annotated[
    tuple[Probability, Probability],
    Field(
        description="How much of the running mean of the gradient, and of its square, a step keeps."
    ),
]
Epsilon = Annotated[
    PositiveFloat, Field(description="Added to the denominator, so that nothing is divided by 0.")
]
Momentum = Annotated[
    Probability, Field(description="How much of the running sum of gradients a step keeps.")
]
Nesterov = Annotated[
    bool, Field(description="Whether the step looks ahead along the momentum (Nesterov).")
]
MakeOptimizer = Callable[..., Optimizer]


class Target(NamedTuple):
    """What an optimizer trains: a model, its parameters in groups, and the base learning rate."""

    model: nn.Module
    groups: list[Group]
    lr: float


def grouped(default_weight_decay: float) -> Callable[[MakeOptimizer], MakeOptimizer]:
    """Make a constructor take a model, and add the keys that group its parameters."""

    def decorate(make: MakeOptimizer) -> MakeOptimizer:
        def optimizer(
            model: nn.Module,
            *,
            lr: LearningRate,
            weight_decay: WeightDecay = default_weight_decay,
            layer_decay: LayerDecay | None = None,
            **keywords: Any,
        ) -> Optimizer:
            groups = param_groups(model, weight_decay, layer_decay)
            return make(Target(model, groups, lr), **keywords)

        return compose_signature(
            optimizer, make, first=["lr", "weight_decay"], last=["layer_decay"]
        )

    return decorate


@OPTIMIZERS.register("adamw")
@grouped(0.05)
def adamw(target: Target, *, betas: Betas = (0.9, 0.999), eps: Epsilon = 1e-8) -> Optimizer:
    """AdamW: Adam with decoupled weight decay. Reference: Loshchilov, Hutter, arXiv:1711.05101."""
    return torch.optim.AdamW(
        target.groups, lr=target.lr, betas=betas, eps=eps, fused=can_fuse(target.model)
    )


@OPTIMIZERS.register("adam")
@grouped(0.0)
def adam(target: Target, *, betas: Betas = (0.9, 0.999), eps: Epsilon = 1e-8) -> Optimizer:
    """Adam; weight decay is an L2 term in the gradient. Reference: Kingma, Ba, arXiv:1412.6980."""
    return torch.optim.Adam(
        target.groups, lr=target.lr, betas=betas, eps=eps, fused=can_fuse(target.model)
    )


@OPTIMIZERS.register("sgd")
@grouped(0.0)
def sgd(target: Target, *, momentum: Momentum = 0.9, nesterov: Nesterov = False) -> Optimizer:
    """Stochastic gradient descent with momentum; weight decay is an L2 term in the gradient."""
    if nesterov and momentum == 0:
        raise ValueError(f"nesterov ({nesterov}) needs momentum ({momentum}) above 0")
    model, groups, lr = target
    # Under FSDP torch's fused SGD, unlike its AdamW, refuses the sharded parameters.
    fused = can_fuse(model) and not any(hasattr(p, "full_tensor") for p in model.parameters())
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused)
    if momentum:
        # torch makes it at the first step, and never fills it if that step is skipped.
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


@OPTIMIZERS.register("lamb")
@grouped(0.05)
def lamb(target: Target, *, betas: Betas = (0.9, 0.999), eps: Epsilon = 1e-8) -> Optimizer:
    """LAMB: Adam whose step is as long as the weights of its layer. See `Lamb`."""
    return Lamb(target.groups, lr=target.lr, betas=betas, eps=eps)


@OPTIMIZERS.register("lion")
@grouped(0.5)
def lion(target: Target, *, betas: Betas = (0.9, 0.99)) -> Optimizer:
    """Lion: every weight moves by the same amount, up or down. See `Lion`."""
    return Lion(target.groups, lr=target.lr, betas=betas)


@OPTIMIZERS.register("muon")
@grouped(0.05)
def muon(
    target: Target,
    *,
    momentum: Momentum = 0.95,
    nesterov: Nesterov = True,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
) -> Optimizer:
    """Muon for the decayed matrices between stem and head, AdamW (`betas`, `eps`) for the rest.

    Muon's step is scaled to the size of AdamW's, so that both share `lr` and `weight_decay`.
    Reference: Jordan et al., https://kellerjordan.github.io/posts/muon; Liu et al., "Muon is
    scalable for LLM training", arXiv:2502.16982 (the scale).
    """
    model, groups, lr = target
    depth = layer_ids(model, [name for name, _ in model.named_parameters()])
    inner = range(1, max(depth.values()))  # 0 is the stem, the largest the heads

    def is_hidden_matrix(name: str, p: Tensor) -> bool:
        return p.ndim == 2 and depth[name] in inner and not is_exempt(model, name)

    # A model may have nothing for one of the two: torch refuses an optimizer without parameters.
    hidden, rest = split_groups(groups, is_hidden_matrix)
    parts: list[Optimizer] = []
    if hidden:
        parts.append(
            torch.optim.Muon(
                hidden, lr=lr, momentum=momentum, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"
            )
        )
    if rest:
        parts.append(torch.optim.AdamW(rest, lr=lr, betas=betas, eps=eps, fused=can_fuse(model)))
    return CombinedOptimizer(parts)


class Lamb(Optimizer):
    """Layer-wise adaptive moments: Adam's direction times ||w|| / ||direction|| per parameter.

    Undecayed parameters take Adam's own step, as in NVIDIA's FusedLAMB, which DeiT-III uses.
    Differs from it: the gradients are not clipped here; `train.grad_clip_norm: 1` does that.

    Reference: You et al., arXiv:1904.00962, algorithm 2.
    """

    def __init__(self, groups: list[Group], *, lr: float, betas: Betas, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            params, grads, means, squares = with_gradient(self, group, "exp_avg", "exp_avg_sq")
            if not params:
                continue
            group["step"] = step = group.get("step", 0) + 1

            # Adam's moments and direction (algorithm 2, lines 5 to 9), all parameters in one call.
            torch._foreach_lerp_(means, grads, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
            scales = torch._foreach_sqrt(squares)
            torch._foreach_mul_(scales, (1 - beta2**step) ** -0.5)
            torch._foreach_add_(scales, group["eps"])
            updates = list(torch._foreach_div(means, scales))
            torch._foreach_mul_(updates, 1 / (1 - beta1**step))
            if group["weight_decay"]:  # only decayed parameters have a trust ratio
                torch._foreach_add_(updates, params, alpha=group["weight_decay"])
                torch._foreach_mul_(updates, trust_ratios(params, updates))
            torch._foreach_add_(params, updates, alpha=-lr)


def trust_ratios(params: list[Tensor], updates: list[Tensor]) -> list[Tensor]:
    """Return ||parameter|| / ||update|| for each pair, 1 where either is 0."""
    # One tensor of all norms, compared and divided on the device: no wait for the host.
    lengths = torch.stack(torch._foreach_norm(params))
    steps = torch.stack(torch._foreach_norm(updates))
    ratios = torch.where((lengths > 0) & (steps > 0), lengths / steps, 1.0)
    return list(ratios.unbind())


class Lion(Optimizer):
    """Evolved sign momentum: step by the sign of a mean of momentum and gradient.

    Its step has the same size for every weight, so the papers' rates are 3 to 10 times below
    AdamW's and the weight decay 3 to 10 times above.

    Reference: Chen et al., arXiv:2302.06675, algorithm 2.
    """

    def __init__(self, groups: list[Group], *, lr: float, betas: Betas) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            params, grads, means = with_gradient(self, group, "exp_avg")
            if not params:
                continue
            # The step's direction mixes with beta1, the momentum that is kept with beta2.
            updates = torch._foreach_mul(means, beta1)
            torch._foreach_add_(updates, grads, alpha=1 - beta1)
            for update in updates:  # torch 2.11 has no _foreach_sign_ of sharded parameters
                update.sign_()
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            torch._foreach_add_(params, updates, alpha=-lr)
            torch._foreach_lerp_(means, grads, 1 - beta2)


class CombinedOptimizer(Optimizer):
    """Several optimizers, each with its own parameters, that step as one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        # The very dictionaries of the parts, so that `set_lr` reaches them.
        super().__init__([group for part in parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        # By class name, so that the order of the parts has no meaning.
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part in self.parts:
            part.load_state_dict(state_dict[type(part).__name__])
        # Loading makes new dictionaries: without this, `set_lr` would change the old ones.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state.update({p: state for part in self.parts for p, state in part.state.items()})


def can_fuse(model: nn.Module) -> bool:
    """Return whether torch has one kernel for the whole step where the model's parameters are."""
    return all(p.device.type in ("cpu", "cuda") for p in model.parameters())


def with_gradient(optimizer: Optimizer, group: Group, *names: str) -> list[list[Tensor]]:
    """Return the parameters of a group that have a gradient, the gradients, and their state.

    Of the state a list for each of the names; it is 0 at a parameter's first gradient.
    """
    params = [p for p in group["params"] if p.grad is not None]
    for p in params:
        if not optimizer.state[p]:
            optimizer.state[p] = {name: torch.zeros_like(p) for name in names}
    states = ([optimizer.state[p][name] for p in params] for name in names)
    return [params, [p.grad for p in params], *states]


def split_groups(
    groups: list[Group], belongs: Callable[[str, Tensor], bool]
) -> tuple[list[Group], list[Group]]:
    """Cut each group into the parameters that belong and those that do not; drop empty ones."""
    parts: dict[bool, list[Group]] = {True: [], False: []}
    for group in groups:
        for wanted, part in parts.items():
            pairs = zip(group["names"], group["params"], strict=True)
            kept = {name: p for name, p in pairs if belongs(name, p) is wanted}
            if kept:
                part.append({**group, "names": list(kept), "params": list(kept.values())})
    return parts[True], parts[False]
