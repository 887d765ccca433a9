import itertools

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny
from vtrain.explain.similarity import centred_gram, cka, features_of, hsic


def by_quadruples(K: Tensor, L: Tensor) -> float:
    """The unbiased HSIC as a mean over all ordered quadruples of different images."""
    n, total, count = len(K), 0.0, 0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += (K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])).item()
        count += 1
    return total / count


def test_hsic_is_the_mean_over_quadruples_of_different_images() -> None:
    X, Y = torch.randn(7, 5).double(), torch.randn(7, 3).double()
    K, L = (X @ X.T).fill_diagonal_(0), (Y @ Y.T).fill_diagonal_(0)
    assert hsic(K, L).item() == pytest.approx(by_quadruples(K, L), rel=1e-9)
    assert hsic(centred_gram(X), centred_gram(Y)).item() == pytest.approx(
        hsic(K, L).item(), rel=1e-9
    )


def test_cka_knows_rotations_and_scales_and_nothing_of_noise() -> None:
    X = torch.randn(200, 10).double()
    Q, _ = torch.linalg.qr(torch.randn(10, 10).double())
    noise = torch.randn(200, 1000).double()
    matrix = cka([[X]], [[3 * X @ Q + 1, noise]])
    assert matrix[0, 0].item() == pytest.approx(1, abs=1e-9)
    assert abs(matrix[0, 1].item()) < 0.1  # the biased one is above 0.5 here


def test_the_layers_of_a_model_are_alike_to_themselves() -> None:
    model, images = tiny("swin_t").eval(), torch.randn(12, 3, 32, 32)

    def batches() -> list[Tensor]:
        return [images[:6], images[6:]]

    matrix = cka(features_of(model, batches), features_of(model, batches))
    assert matrix.shape == (4, 4)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(4).double())
    torch.testing.assert_close(matrix, matrix.T)
