"""Each optimizer against its formula or an independent implementation, over 20 steps."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from vtrain.optim.optimizers import CombinedOptimizer
from vtrain.registry import OPTIMIZERS

STEPS, LR, DECAY = 20, 0.01, 0.1


class Net(nn.Sequential):
    """Embedding, two hidden layers and a head, in float64 so that rounding hides nothing."""

    no_weight_decay = frozenset({"2.weight"})

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 3)
        )
        self.double()

    def layer_id(self, name: str) -> int:
        return int(name.split(".", maxsplit=1)[0])


def loss_of(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(16, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (16,), generator=generator)
    return nn.functional.cross_entropy(model(images), targets)


def trained(
    model: nn.Module,
    optimizer: Any,
    steps: range = range(STEPS),
    loss: Callable[[nn.Module, int], Tensor] = loss_of,
) -> nn.Module:
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()
    return model


def decay_of(name: str, parameter: Tensor) -> float:
    """What `Net` asks for, said once more."""
    return DECAY if parameter.ndim == 2 and name != "2.weight" else 0.0


class Formula:
    """An optimizer that calls `update(parameter, gradient, decay, memory, t)` for each tensor."""

    def __init__(self, model: nn.Module, update: Callable[..., None]) -> None:
        self.model, self.update, self.t = model, update, 0
        self.memory: dict[str, dict[str, Tensor]] = {n: {} for n, _ in model.named_parameters()}

    def zero_grad(self) -> None:
        self.model.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self.t += 1
        for name, p in self.model.named_parameters():
            self.update(p, p.grad, decay_of(name, p), self.memory[name], self.t)


def moments(g: Tensor, memory: dict[str, Tensor], t: int) -> tuple[Tensor, Tensor]:
    m = memory["m"] = 0.9 * memory.get("m", 0 * g) + 0.1 * g
    v = memory["v"] = 0.999 * memory.get("v", 0 * g) + 0.001 * g * g
    return m / (1 - 0.9**t), v / (1 - 0.999**t)


def adamw(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    m, v = moments(g, memory, t)
    p.sub_(LR * (m / (v.sqrt() + 1e-8) + decay * p))


def adam(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    m, v = moments(g + decay * p, memory, t)
    p.sub_(LR * m / (v.sqrt() + 1e-8))


def sgd(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    g = g + decay * p
    m = memory["m"] = 0.9 * memory.get("m", 0 * g) + g
    p.sub_(LR * m)


def nesterov(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    g = g + decay * p
    m = memory["m"] = 0.9 * memory.get("m", 0 * g) + g
    p.sub_(LR * (g + 0.9 * m))


def lamb(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    m, v = moments(g, memory, t)
    update = m / (v.sqrt() + 1e-8) + decay * p
    p.sub_(LR * (p.norm() / update.norm() if decay else 1.0) * update)


def lion(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    m = memory.get("m", 0 * g)
    p.sub_(LR * ((0.9 * m + 0.1 * g).sign() + decay * p))
    memory["m"] = 0.99 * m + 0.01 * g


@pytest.mark.parametrize(
    ("name", "arguments", "formula"),
    [
        ("adamw", {}, adamw),
        ("adam", {}, adam),
        ("sgd", {}, sgd),
        ("sgd", {"nesterov": True}, nesterov),
        ("lamb", {}, lamb),
        ("lion", {}, lion),
    ],
)
def test_twenty_steps_follow_the_formula(
    name: str, arguments: dict[str, Any], formula: Callable[..., None]
) -> None:
    ours = Net()
    theirs = copy.deepcopy(ours)
    trained(ours, OPTIMIZERS[name](ours, lr=LR, weight_decay=DECAY, **arguments))
    trained(theirs, Formula(theirs, formula))
    assert_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("lamb", lambda groups: timm.optim.Lamb(groups, lr=LR, max_grad_norm=None, eps=1e-8)),
        ("lion", lambda groups: timm.optim.Lion(groups, lr=LR)),
    ],
)
def test_twenty_steps_equal_timm(name: str, theirs: Callable[[Any], torch.optim.Optimizer]) -> None:
    ours = Net()
    other = copy.deepcopy(ours)
    groups = [{"params": [p], "weight_decay": decay_of(n, p)} for n, p in other.named_parameters()]
    trained(ours, OPTIMIZERS[name](ours, lr=LR, weight_decay=DECAY))
    trained(other, theirs(groups))
    assert_equal(ours, other)


def muon(p: Tensor, g: Tensor, decay: float, memory: dict[str, Tensor], t: int) -> None:
    """Jordan's algorithm, with the iteration in float64 and Liu's scale (arXiv:2502.16982)."""
    m = memory["m"] = 0.95 * memory.get("m", 0 * g) + 0.05 * g
    x = 0.05 * g + 0.95 * m
    x = x / x.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    p.sub_(LR * (0.2 * math.sqrt(max(p.shape)) * x + decay * p))


def test_muon_follows_the_formulas_for_hidden_matrices_and_the_rest() -> None:
    ours = Net()
    theirs = copy.deepcopy(ours)
    hidden = {id(theirs[3].weight)}  # 2.weight is exempt, like a position table

    def formula(p: Tensor, *rest: Any) -> None:
        (muon if id(p) in hidden else adamw)(p, *rest)

    def noise(model: nn.Module, step: int) -> Tensor:
        """A loss with the same gradients wherever the weights are: errors do not add up."""
        generator = torch.Generator().manual_seed(step)
        return sum(  # type: ignore[return-value]
            (p * torch.randn(p.shape, generator=generator, dtype=p.dtype)).sum()
            for p in model.parameters()
        )

    start = copy.deepcopy(ours)
    trained(ours, OPTIMIZERS["muon"](ours, lr=LR, weight_decay=DECAY), loss=noise)
    trained(theirs, Formula(theirs, formula), loss=noise)
    for p, q, before in zip(
        ours.parameters(), theirs.parameters(), start.parameters(), strict=True
    ):
        # torch iterates in bfloat16, whose numbers have 8 bits: 1 part in 256.
        assert (p - q).norm() < 0.01 * (p - before).norm()


def test_muon_leaves_stem_head_vectors_and_exempt_tables_to_adamw() -> None:
    optimizer = OPTIMIZERS["muon"](Net(), lr=LR)
    names = {
        type(part).__name__: sorted(n for g in part.param_groups for n in g["names"])
        for part in optimizer.parts
    }
    assert names["Muon"] == ["3.weight"]
    assert names["AdamW"] == [
        f"{i}.{kind}"
        for i in (0, 2, 3, 4)
        for kind in ("bias", "weight")
        if (i, kind) != (3, "weight")
    ]


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_saved_optimizer_goes_on_as_if_never_stopped(name: str) -> None:
    whole = Net()
    first = copy.deepcopy(whole)
    trained(whole, OPTIMIZERS[name](whole, lr=LR, layer_decay=0.5))
    optimizer = OPTIMIZERS[name](first, lr=LR, layer_decay=0.5)
    trained(first, optimizer, range(10))
    saved, second = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(first)
    restored = OPTIMIZERS[name](second, lr=LR, layer_decay=0.5)
    restored.load_state_dict(saved)
    trained(second, restored, range(10, STEPS))
    for p, q in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_state_dict_is_plain_data_that_loads_without_pickled_code(name: str, tmp_path) -> None:
    model = Net()
    optimizer = OPTIMIZERS[name](model, lr=LR)
    trained(model, optimizer, range(1))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_is_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        OPTIMIZERS[name](Net(), lr=LR)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_torchs_own_optimizers_make_the_step_in_one_kernel(name: str) -> None:
    assert all(group["fused"] for group in OPTIMIZERS[name](Net(), lr=LR).param_groups)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_parameter_without_a_gradient_stays(name: str) -> None:
    model = Net()
    model[2].register_parameter("spare", nn.Parameter(torch.ones(2, 2)))
    trained(model, OPTIMIZERS[name](model, lr=LR), range(2))
    assert torch.equal(model[2].spare, torch.ones(2, 2))


@pytest.mark.parametrize("name", ["lamb", "lion"])
def test_weights_that_are_all_zero_can_still_move(name: str) -> None:
    model = Net()
    nn.init.zeros_(model[4].weight)
    trained(model, OPTIMIZERS[name](model, lr=LR), range(1))
    assert model[4].weight.isfinite().all()
    assert model[4].weight.any()


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nesterov \(True\) needs momentum \(0.0\) above 0"):
        OPTIMIZERS["sgd"](Net(), lr=LR, momentum=0.0, nesterov=True)


@pytest.mark.parametrize("name", ["lamb", "lion", "muon"])
def test_a_closure_is_refused(name: str) -> None:
    with pytest.raises(AssertionError):
        OPTIMIZERS[name](Net(), lr=LR).step(lambda: 0.0)


def test_the_rate_of_a_joined_optimizer_still_counts_after_loading() -> None:
    model = Net()
    optimizer = OPTIMIZERS["muon"](model, lr=LR)
    assert isinstance(optimizer, CombinedOptimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model)
    trained(model, optimizer, range(1))
    assert_equal(model, before)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
