"""Clipping, and what happens to steps that are not finite."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtrain.engine.ema import EMA
from vtrain.errors import DivergedError
from vtrain.optim.gradients import LossScaler, StepGuard, clip_grad_norm, gradient_norm
from vtrain.registry import OPTIMIZERS


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))

    def layer_id(self, name: str) -> int:
        return int(name[0])


def make_gradients(model: nn.Module, poison: float | None = None) -> None:
    model.zero_grad()
    generator = torch.Generator().manual_seed(1)
    model(torch.randn(8, 3, generator=generator)).square().sum().backward()
    if poison is not None:
        model[1].weight.grad[0, 0] = poison


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("max_norm", [None, 0.5, 1e9])
def test_clipping_scales_the_gradients_to_the_norm_and_returns_the_one_before(
    max_norm: float | None,
) -> None:
    model = Net()
    model.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    make_gradients(model)
    before = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    length = math.sqrt(sum(g * g for g in before.tolist()))
    assert float(clip_grad_norm(model.parameters(), max_norm)) == pytest.approx(length)
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    factor = min(1.0, max_norm / length) if max_norm else 1.0
    torch.testing.assert_close(after, before * factor)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_the_norm_is_finite_only_if_every_gradient_is(poison: float) -> None:
    model = Net()
    make_gradients(model, poison)
    assert not clip_grad_norm(model.parameters(), 1.0).isfinite()


def guarded_and_plain(name: str) -> tuple[nn.Module, StepGuard, nn.Module, Optimizer]:
    """Return two equal models, the first one's steps guarded."""
    guarded = Net()
    plain = copy.deepcopy(guarded)
    guard = StepGuard(OPTIMIZERS[name](guarded, lr=0.1))
    return guarded, guard, plain, OPTIMIZERS[name](plain, lr=0.1)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_the_guard_makes_the_optimizers_own_steps(name: str) -> None:
    guarded, guard, plain, optimizer = guarded_and_plain(name)
    for step in range(3):
        make_gradients(guarded)
        guard.set_step(step)
        guard.step(clip_grad_norm(guarded.parameters(), 1.0))
        make_gradients(plain)
        clip_grad_norm(plain.parameters(), 1.0)
        optimizer.step()
    guard.check()
    assert torch.equal(weights(guarded), weights(plain))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_the_guard_clips_as_torch_does(name: str, max_norm: float) -> None:
    guarded, guard, plain, optimizer = guarded_and_plain(name)
    for _ in range(3):
        make_gradients(guarded)
        guard.step(gradient_norm(guarded.parameters()), max_norm)
        make_gradients(plain)
        nn.utils.clip_grad_norm_(plain.parameters(), max_norm)
        optimizer.step()
    torch.testing.assert_close(weights(guarded), weights(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
@pytest.mark.parametrize("bad_step", [0, 1])
def test_a_step_that_is_not_finite_leaves_finite_weights_and_is_named(
    name: str, bad_step: int
) -> None:
    model = Net()
    guard = StepGuard(OPTIMIZERS[name](model, lr=0.1, weight_decay=0.0))
    for step in range(4):
        make_gradients(model, math.nan if step in (bad_step, bad_step + 1) else None)
        guard.set_step(step)
        guard.step(gradient_norm(model.parameters()), 1.0)
        assert weights(model).isfinite().all()
    with pytest.raises(DivergedError, match=f"not finite at step {bad_step}"):
        guard.check()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("bad_step", [0, 2])
def test_a_fused_optimizer_behaves_as_if_the_bad_step_had_not_been(
    name: str, bad_step: int
) -> None:
    model, guard, other, optimizer = guarded_and_plain(name)
    for step in range(5):
        make_gradients(model, math.inf if step == bad_step else None)
        guard.set_step(step)
        guard.step(clip_grad_norm(model.parameters(), None))
        if step != bad_step:
            make_gradients(other)
            optimizer.step()
    assert torch.equal(weights(model), weights(other))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_nothing_is_read_from_the_device_at_a_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Net()
    guard = StepGuard(OPTIMIZERS[name](model, lr=0.1))
    make_gradients(model)
    guard.set_step(0)
    guard.step(gradient_norm(model.parameters()), 1.0)  # the first one makes the state
    reads: list[str] = []
    for method in ("item", "tolist", "__bool__", "__float__", "__int__"):
        read = getattr(Tensor, method)
        monkeypatch.setattr(
            Tensor, method, lambda t, read=read, m=method: (reads.append(m), read(t))[1]
        )
    make_gradients(model)
    guard.set_step(1)
    guard.step(gradient_norm(model.parameters()), 1.0)
    assert reads == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_on_cuda_a_step_clipping_and_averaging_wait_for_nothing(name: str) -> None:
    model = Net().cuda()
    guard, ema = StepGuard(OPTIMIZERS[name](model, lr=0.1)), EMA(model, 0.9)
    for step in range(3):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        # The first steps make the state and load the kernels; torch raises at a later wait.
        torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")
        try:
            guard.set_step(step)
            guard.step(gradient_norm(model.parameters()), 1.0)
            ema.update(model, step + 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    guard.check()


def test_a_scaled_loss_gives_the_step_of_an_unscaled_one() -> None:
    model = Net()
    other = copy.deepcopy(model)
    optimizers = [OPTIMIZERS["adamw"](m, lr=0.1) for m in (model, other)]
    scaler = LossScaler(torch.device("cpu"))
    images = torch.randn(8, 3)
    for step in range(3):
        for m in (model, other):
            m.zero_grad()
        scaler.scale(model(images).square().mean()).backward()
        scaler.unscale(optimizers[0])
        assert scaler.step(optimizers[0], step)
        other(images).square().mean().backward()
        optimizers[1].step()
    torch.testing.assert_close(weights(model), weights(other))


def overflow(scaler: LossScaler, model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    model.zero_grad()
    scaler.scale(model(torch.ones(2, 3)).sum()).backward()
    model[0].weight.grad[0, 0] = math.inf
    scaler.unscale(optimizer)
    return scaler.step(optimizer, step=7)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_an_overflow_skips_the_step_and_says_so(name: str) -> None:
    model = Net()
    before = weights(model)
    optimizer = OPTIMIZERS[name](model, lr=0.1)
    assert not overflow(LossScaler(torch.device("cpu")), model, optimizer)
    assert torch.equal(weights(model), before)


def test_overflow_at_a_scale_of_one_ends_the_run() -> None:
    model = Net()
    optimizer = OPTIMIZERS["adamw"](model, lr=0.1)
    scaler = LossScaler(torch.device("cpu"))
    for _ in range(16):  # from 2**16, torch's first scale, to 1
        assert not overflow(scaler, model, optimizer)
    with pytest.raises(DivergedError, match="of step 7 overflow even at a loss scale of 1"):
        overflow(scaler, model, optimizer)


def test_a_restored_scaler_goes_on_where_it_was() -> None:
    model = Net()
    optimizer = OPTIMIZERS["adamw"](model, lr=0.1)
    first, second = (LossScaler(torch.device("cpu")) for _ in range(2))
    for _ in range(3):
        overflow(first, model, optimizer)
    second.load_state_dict(first.state_dict())
    assert second.scaler.get_scale() == 2.0**13
