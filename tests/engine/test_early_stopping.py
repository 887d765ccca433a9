"""When a run that no longer improves is stopped."""

import math

from vtrain.engine.early_stopping import EarlyStopping


def top1(patience: int, min_gain: float = 0.0) -> EarlyStopping:
    return EarlyStopping(metric="val/top1", mode="max", patience=patience, min_gain=min_gain)


def stops(rule: EarlyStopping, values: list[float]) -> list[bool]:
    decisions = []
    for value in values:
        rule.update({"val/loss": 1.0, rule.metric: value})
        decisions.append(rule.reason is not None)
    return decisions


def test_patience_counts_evaluations_without_a_gain_in_a_row() -> None:
    rule = top1(patience=2)
    assert stops(rule, [0.1, 0.1, 0.2, 0.1, 0.2]) == [False, False, False, False, True]
    assert rule.best == 0.2
    assert rule.reason == "val/top1 was not better than 0.2000 in 2 evaluations in a row"


def test_a_loss_gains_by_falling() -> None:
    rule = EarlyStopping(metric="val/loss", mode="min", patience=1)
    assert stops(rule, [2.0, 1.0, 1.5]) == [False, False, True]


def test_a_gain_must_pass_the_best_by_more_than_the_minimum() -> None:
    rule = top1(patience=2, min_gain=0.125)
    # 0.5 + 0.125 is not more; small gains that add up count from the old best.
    assert stops(rule, [0.5, 0.625, 0.75, 0.75, 0.875]) == [False, False, False, False, True]
    expected = "val/top1 was not better than 0.7500 by more than 0.125 in 2 evaluations in a row"
    assert rule.reason == expected


def test_what_is_no_number_is_never_a_gain() -> None:
    rule = top1(patience=3)
    assert stops(rule, [math.nan, math.nan, 0.1]) == [False, False, False]
    assert rule.best == 0.1
    assert stops(rule, [math.nan, math.nan, math.nan]) == [False, False, True]
    never = top1(patience=1)
    assert stops(never, [math.nan]) == [True]
    assert never.reason == "val/top1 was not a number in 1 evaluation"


def test_a_restored_rule_goes_on_counting() -> None:
    values = [0.3, 0.2, 0.2, 0.4, 0.1, 0.1, 0.1]
    whole = stops(top1(patience=3), values)
    first, second = (top1(patience=3) for _ in range(2))
    before = stops(first, values[:5])
    second.load_state_dict(first.state_dict())
    assert before + stops(second, values[5:]) == whole
