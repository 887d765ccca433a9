"""When a run that no longer improves is stopped."""

import math

import pytest

from vtrain.callbacks.early_stopping import EarlyStopping
from vtrain.errors import ConfigError


def stops(rule: EarlyStopping, values: list[float]) -> list[bool]:
    return [rule.update({rule.metric: value}) for value in values]


def test_patience_counts_evaluations_without_a_gain_in_a_row() -> None:
    rule = EarlyStopping("val/top1", "max", patience=2)
    assert stops(rule, [0.1, 0.1, 0.2, 0.1, 0.2]) == [False, False, False, False, True]
    assert rule.best == 0.2


def test_a_loss_gains_by_falling() -> None:
    rule = EarlyStopping("val/loss", "min", patience=1)
    assert stops(rule, [2.0, 1.0, 1.5]) == [False, False, True]


def test_a_gain_must_pass_the_best_by_more_than_the_minimum() -> None:
    rule = EarlyStopping("val/top1", "max", patience=2, min_gain=0.125)
    # 0.5 + 0.125 is not more; small gains that add up count from the old best.
    assert stops(rule, [0.5, 0.625, 0.75, 0.75, 0.875]) == [False, False, False, False, True]


def test_what_is_no_number_is_never_a_gain() -> None:
    rule = EarlyStopping("val/top1", "max", patience=3)
    assert stops(rule, [math.nan, math.nan, 0.1]) == [False, False, False]
    assert rule.best == 0.1
    assert stops(rule, [math.nan, math.nan, math.nan]) == [False, False, True]


def test_a_restored_rule_goes_on_counting() -> None:
    values = [0.3, 0.2, 0.2, 0.4, 0.1, 0.1, 0.1]
    whole = stops(EarlyStopping("val/top1", "max", patience=3), values)
    first, second = (EarlyStopping("val/top1", "max", patience=3) for _ in range(2))
    before = stops(first, values[:5])
    second.load_state_dict(first.state_dict())
    assert before + stops(second, values[5:]) == whole


def test_a_metric_that_no_evaluation_gives_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown metric 'val/top': did you mean 'val/top1'"):
        EarlyStopping("val/top", "max", patience=1).update({"val/loss": 1.0, "val/top1": 0.5})
