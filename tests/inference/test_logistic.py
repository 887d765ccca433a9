"""Logistic regression, against scikit-learn and by the formula of its objective."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vtrain.data.datasets.stratified import hold_out
from vtrain.inference import logistic
from vtrain.inference.logistic import HELD_OUT, STRENGTHS, fit, fit_probe


def digits(count: int = 400) -> tuple[Tensor, Tensor]:
    data, target = load_digits(return_X_y=True)
    return torch.tensor(data[:count], dtype=torch.float32), torch.tensor(target[:count])


def theirs(features: Tensor, targets: Tensor, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's weights (C, D) and biases of the same objective."""
    X = StandardScaler().fit_transform(features.double().numpy())
    model = LogisticRegression(C=1 / (l2 * len(X)), tol=1e-9, max_iter=20_000)
    model.fit(X, targets.numpy())
    return model.coef_, model.intercept_


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-3])
def test_the_solution_is_scikit_learns(l2: float) -> None:
    features, targets = digits()
    rows = torch.arange(len(targets))
    found = fit(features, targets, torch.zeros(10, 65).double(), l2, rows)
    assert found.is_done
    weights, biases = theirs(features, targets, l2)
    np.testing.assert_allclose(found.weights[:, :-1], weights, atol=2e-3)
    # The softmax does not change if a number is added to all biases.
    ours = found.weights[:, -1] - found.weights[:, -1].mean()
    np.testing.assert_allclose(ours, biases - biases.mean(), atol=1e-2)
    X = StandardScaler().fit_transform(features.double().numpy())
    logits = torch.tensor(X @ weights.T + biases)
    expected = logits.softmax(1)
    torch.testing.assert_close(found.logits(features).softmax(1), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1 << 13, 37])
def test_the_solution_is_where_the_gradient_of_the_formula_vanishes(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "ROWS", rows)
    features, targets = digits(150)
    chosen = torch.arange(0, 150, 2)
    found = fit(features, targets, torch.zeros(10, 65).double(), 0.1, chosen)
    X = torch.tensor(StandardScaler().fit_transform(features[chosen].double().numpy()))
    W = found.weights[:, :-1].clone().requires_grad_()
    b = found.weights[:, -1].clone().requires_grad_()
    loss = F.cross_entropy(X @ W.T + b, targets[chosen]) + 0.1 / 2 * W.square().sum()
    loss.backward()
    assert W.grad is not None
    assert b.grad is not None
    assert max(W.grad.abs().max(), b.grad.abs().max()) < 1e-5


def test_the_strength_is_the_best_on_the_held_out_part_and_the_fit_is_of_all() -> None:
    features, targets = digits()
    probe = fit_probe(features, targets, 10)
    out = hold_out(targets, HELD_OUT)
    accuracies = {}
    for l2 in STRENGTHS:
        X = StandardScaler().fit(features[~out].double().numpy())
        model = LogisticRegression(C=1 / (l2 * int((~out).sum())), max_iter=5000)
        model.fit(X.transform(features[~out].double().numpy()), targets[~out].numpy())
        accuracies[l2] = model.score(X.transform(features[out].double().numpy()), targets[out])
    assert probe.held_out.keys() == accuracies.keys()
    for l2, accuracy in accuracies.items():  # an image or two on the border may differ
        assert probe.held_out[l2] == pytest.approx(accuracy, abs=2 / int(out.sum()))
    assert probe.held_out[probe.classifier.l2] == max(probe.held_out.values())
    everything = fit(
        features,
        targets,
        torch.zeros(10, 65).double(),
        probe.classifier.l2,
        torch.arange(len(targets)),
    )
    torch.testing.assert_close(probe.classifier.weights, everything.weights)


def test_features_that_do_not_vary_and_classes_without_images_do_no_harm() -> None:
    features, targets = digits(120)
    features = torch.cat([features, torch.full((120, 1), 0.1)], dim=1)
    found = fit(features, targets, torch.zeros(11, 66).double(), 1e-2, torch.arange(120))
    assert found.is_done
    logits = found.logits(features)
    assert logits.isfinite().all()
    assert (logits.argmax(1) == targets).float().mean() > 0.9
    assert not (logits.argmax(1) == 10).any()
