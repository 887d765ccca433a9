from collections import Counter

import optuna
import pytest

from vtrain.sweep.space import Dimension, cells


@pytest.mark.parametrize(
    ("dimension", "kind", "allowed"),
    [
        (Dimension(low=1, high=4), int, {1, 2, 3, 4}),
        (Dimension(low=2, high=8, step=3), int, {2, 5, 8}),
        (Dimension(low=0.0, high=0.4, step=0.2), float, {0.0, 0.2, 0.4}),
        (Dimension(low=0, high=1.0), float, None),
        (Dimension(low=1e-4, high=1e-1, log=True), float, None),
        (Dimension(choices=[None, True, 1, "1e-3", [0.9, 0.95]]), object, None),
    ],
)
def test_what_is_suggested_is_of_the_dimension(
    dimension: Dimension, kind: type, allowed: set[float] | None
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = []
    for _ in range(60):
        trial = study.ask({"key": dimension.distribution()})
        found.append(dimension.value(trial.params["key"]))
    assert all(isinstance(value, kind) for value in found)
    if allowed is not None:
        assert set(found) == allowed
    if dimension.choices is not None:
        assert all(choice in found for choice in dimension.choices)
    elif allowed is None:
        assert dimension.low is not None
        assert dimension.high is not None
        assert all(dimension.low <= value <= dimension.high for value in found)
        # Half below the middle, by factors where it is logarithmic.
        middle = (dimension.low * dimension.high) ** 0.5 if dimension.log else 0.5
        assert 15 < Counter(value < middle for value in found)[True] < 45


def test_cells_are_every_combination_once() -> None:
    found = list(cells({"a": [1, 2], "b": [None, "x"]}))
    assert found == [{"a": a, "b": b} for a in ("1", "2") for b in ("null", "x")]
