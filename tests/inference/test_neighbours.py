"""k nearest neighbours, against scikit-learn and a loop."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from vtrain.errors import ConfigError
from vtrain.inference import neighbours
from vtrain.inference.neighbours import TEMPERATURE, nearest, vote


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    bank, asked = torch.randn(90, 6), torch.randn(25, 6)
    return bank, torch.arange(90) % 4, asked


@pytest.mark.parametrize("rows", [1 << 16, 7])
@pytest.mark.parametrize("k", [1, 20])
def test_shares_are_those_of_scikit_learn(
    rows: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows)
    bank, labels, asked = problem()
    cosines, places = nearest(asked, bank, k)
    shares = vote(cosines, labels[places], 4, TEMPERATURE)

    def weigh(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / TEMPERATURE)  # its distance is 1 - cosine

    theirs = KNeighborsClassifier(k, weights=weigh, metric="cosine", algorithm="brute")
    theirs.fit(bank.numpy(), labels.numpy())
    expected = theirs.predict_proba(asked.numpy())
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_nearest_come_first_and_are_those_of_a_loop() -> None:
    bank, _, asked = problem()
    cosines, places = nearest(asked, bank, 3)
    for n, query in enumerate(asked):
        each = [float(torch.cosine_similarity(query, row, dim=0)) for row in bank]
        expected = sorted(range(90), key=lambda i: -each[i])[:3]
        assert places[n].tolist() == expected
        assert cosines[n].tolist() == pytest.approx([each[i] for i in expected], abs=1e-6)


def test_votes_stay_finite_at_any_temperature_and_classes_without_one_get_nothing() -> None:
    shares = vote(torch.tensor([[1.0, 0.5]]), torch.tensor([[2, 0]]), 4, 1e-4)
    assert shares.tolist() == [[0, 0, 1, 0]]
    half = vote(torch.tensor([[0.3, 0.3]]), torch.tensor([[2, 0]]), 4, 0.07)
    assert half.tolist() == [[0.5, 0, 0.5, 0]]


def test_more_neighbours_than_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="91 neighbours are more than the 90 images"):
        nearest(torch.randn(1, 6), torch.randn(90, 6), 91)
