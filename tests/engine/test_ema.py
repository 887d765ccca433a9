"""The moving average of the weights, against its closed form."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vtrain.engine.ema import EMA


def set_all(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)


def test_with_a_constant_decay_the_average_is_a_geometric_sum() -> None:
    model = nn.Linear(2, 2, bias=False).double()
    set_all(model, 1.0)
    ema = EMA(model, decay=0.1)  # below (1 + n) / (10 + n) from the first update on
    values = [2.0, -1.0, 5.0, 3.0]
    for step, value in enumerate(values, start=1):
        set_all(model, value)
        ema.update(model, step)
    closed = 0.1**4 * 1.0 + sum(0.9 * 0.1 ** (3 - i) * v for i, v in enumerate(values))
    torch.testing.assert_close(
        ema.weights["weight"], torch.full((2, 2), closed, dtype=torch.float64)
    )


def test_the_decay_warms_up_and_stays_at_its_limit() -> None:
    ema = EMA(nn.Linear(1, 1), decay=0.9)
    assert [ema.decay_at(n) for n in (0, 1, 8, 80, 81, 10**6)] == pytest.approx(
        [0.1, 2 / 11, 0.5, 0.9, 0.9, 0.9]
    )


def test_while_it_warms_up_old_weights_fade_as_a_power_of_time() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    set_all(model, 1.0)
    ema = EMA(model, decay=0.9999)
    set_all(model, 0.0)
    share = 1.0  # of the initial weights that is left
    for n in range(1, 1001):
        ema.update(model, n)
        share *= (1 + n) / (10 + n)
    assert float(ema.weights["weight"]) == pytest.approx(share)
    assert share < 1e-12


def test_integer_buffers_are_copied_and_float_buffers_averaged() -> None:
    model = nn.BatchNorm1d(3)
    ema = EMA(model, decay=0.0)
    model.train()(torch.randn(8, 3))
    ema.update(model, 1)
    assert ema.weights["num_batches_tracked"] == 1
    torch.testing.assert_close(ema.weights["running_mean"], model.running_mean)
    half = EMA(model, decay=0.01)
    before = model.running_mean.clone()
    model(torch.randn(8, 3) + 5)
    half.update(model, 1)
    expected = 0.01 * before + 0.99 * model.running_mean
    torch.testing.assert_close(half.weights["running_mean"], expected)


def test_swapping_lends_the_averages_and_takes_them_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(model, decay=0.99)
    set_all(model, 3.0)
    ema.update(model, 1)
    live, average = copy.deepcopy(model.state_dict()), copy.deepcopy(ema.weights)
    places = [p.data_ptr() for p in model.parameters()]
    with ema.swapped_into(model):
        assert_same(model.state_dict(), average)
        assert_same(ema.weights, live)
    assert_same(model.state_dict(), live)
    assert_same(ema.weights, average)
    assert [p.data_ptr() for p in model.parameters()] == places


def test_an_error_while_swapped_puts_the_weights_back() -> None:
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.99)
    set_all(model, 3.0)
    with pytest.raises(RuntimeError, match="boom"), ema.swapped_into(model):
        raise RuntimeError("boom")
    assert all((p == 3).all() for p in model.parameters())


def test_the_saved_average_loads_into_a_model_and_into_another_ema() -> None:
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.5)
    set_all(model, 3.0)
    ema.update(model, 1)
    saved = copy.deepcopy(ema.state_dict())
    fresh = nn.Linear(2, 2)
    fresh.load_state_dict(saved["weights"])
    assert_same(fresh.state_dict(), ema.weights)
    other = EMA(nn.Linear(2, 2), decay=0.5)
    other.load_state_dict(saved)
    assert_same(other.weights, ema.weights)
    other.update(model, 2)  # the loaded tensors are its own
    assert not torch.equal(other.weights["weight"], saved["weights"]["weight"])


def test_the_average_of_another_model_is_refused() -> None:
    saved = EMA(nn.Linear(2, 2, bias=False), 0.5).state_dict()
    with pytest.raises(AssertionError):
        EMA(nn.Linear(2, 2), 0.5).load_state_dict(saved)


def test_averaging_keeps_no_graph() -> None:
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.5)
    ema.update(model, 1)
    assert not any(tensor.requires_grad for tensor in ema.weights.values())


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
