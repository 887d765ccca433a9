import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vtrain.explain import faithful
from vtrain.explain.faithful import (
    Trust,
    curves,
    patches_per_side,
    ranks,
    sentences,
    spread,
    trust,
)
from vtrain.explain.methods import METHODS, Map, Method


class Corner(nn.Module):
    """Says class 1 by how bright the upper left quarter of an image is, and knows no more."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[..., :8, :8].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), 8 * bright - 4], 1)


def test_ranks_count_from_the_most_important_patch() -> None:
    values = torch.tensor([[[3.0, 1.0], [4.0, 2.0]]])
    assert ranks(values, 2, np.random.default_rng(0)).tolist() == [[1, 3, 0, 2]]


def test_equal_patches_are_in_random_order() -> None:
    found = ranks(torch.zeros(200, 1, 1), 4, np.random.default_rng(0)).double()
    assert (found.sort(1).values == torch.arange(16)).all()
    assert (found.mean(0) - 7.5).abs().max() < 1.5  # a deviation of 0.33 is expected


def test_patches_are_spread_over_their_pixels() -> None:
    mask = spread(torch.tensor([[True, False, False, True]]), torch.zeros(1, 3, 8, 8))
    assert mask.shape == (1, 1, 8, 8)
    assert mask[0, 0, :4, :4].all()
    assert mask[0, 0, 4:, 4:].all()
    assert mask.sum() == 32


def test_curves_of_a_model_that_looks_at_one_corner() -> None:
    images, targets = torch.ones(1, 3, 16, 16), torch.tensor([1])
    best = torch.tensor([[0, 1, 4, 5, 2, 3, 6, 7, *range(8, 16)]]).argsort(1)
    found = curves(Corner(), images, targets, best)
    p = lambda share: 1 / (1 + np.exp(-(8 * share - 4)))  # noqa: E731
    # A step is 1.6 patches of the 4 in the corner: 0, 2, 3, 4, ... (16 * step / 10, rounded).
    expected = [p(1 - min(4, round(16 * s / 10)) / 4) for s in range(11)]
    np.testing.assert_allclose(found["deletion"][0], expected, rtol=1e-5)
    assert found["insertion"][0, 0] == pytest.approx(p(1), rel=1e-5)  # a blur of white is white
    assert found["positive"][0].tolist() == [1, *[0] * 10]  # two of four gone: even odds
    assert found["negative"][0, :7].all()  # the corner is left for last
    assert not found["negative"][0, 10]


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = torch.zeros(16, 16), torch.zeros(16, 16)
    good[:8, :8] = 1
    bad[8:, 8:] = 1
    for name, values in (("good", good), ("bad", bad)):
        monkeypatch.setitem(
            METHODS,
            name,
            Method(
                lambda model, images, _, values=values: [
                    Map(
                        "",
                        None,
                        (values if model is trained else 0 * values).expand(len(images), -1, -1),
                    )
                ]
            ),
        )


trained, untrained = Corner(), Corner()


def fixed(model: nn.Module, images: Tensor, values: Tensor) -> Map:
    found = values if model is trained else 0 * values
    return Map("", None, found.expand(len(images), -1, -1))


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    images = -torch.ones(12, 3, 16, 16)
    images[..., :8, :8] = torch.rand(12, 3, 8, 8)
    return [
        (images[:8], torch.ones(8, dtype=torch.long)),
        (images[8:], torch.ones(4, dtype=torch.long)),
    ]


def test_a_map_of_the_evidence_beats_random_and_says_so(methods: None) -> None:
    measured = trust(trained, untrained, batches(), "good")
    assert measured.images == 12
    for kind in ("deletion", "insertion"):
        _, low, _ = measured.gain(kind, "random")
        assert low > 0
    assert all("beats" in line and "NOT" not in line for line in sentences(measured, "good"))


def test_a_map_of_something_else_does_not_and_says_so(methods: None) -> None:
    measured = trust(trained, untrained, batches(), "bad")
    assert measured.verdict("insertion", "random") == "worse"
    assert all("does NOT beat" in line for line in sentences(measured, "bad"))


def test_one_image_proves_nothing() -> None:
    best = np.tile(np.linspace(1, 0, 11), (1, 1))
    measured = Trust({(k, o): best * (o == "map") for k in faithful.KINDS for o in faithful.ORDERS})
    assert measured.verdict("insertion", "random") == "not shown to be better"


@pytest.mark.parametrize(("size", "side"), [(224, 14), (32, 8), (4, 1), (2, 1), (57, 14)])
def test_patches_are_neither_tiny_nor_too_many(size: int, side: int) -> None:
    assert patches_per_side(size) == side
