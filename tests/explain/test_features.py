import io

import numpy as np
import pytest
from PIL import Image

from vtrain.explain.features import plane
from vtrain.explain.portraits import scatter_figure


def test_the_plane_keeps_classes_together_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 25)
    X = rng.normal(size=(50, 8)) + 20 * labels[:, None]
    points = plane(X)
    assert points is not None
    np.testing.assert_array_equal(points, plane(X))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()


@pytest.mark.parametrize(
    "X", [np.ones((4, 3)), np.random.default_rng(0).normal(size=(4, 3)), np.full((30, 3), 0.1)]
)
def test_what_cannot_be_drawn_is_not(X: np.ndarray) -> None:
    assert plane(X) is None


def test_five_images_and_one_feature_can_be_drawn() -> None:
    points = plane(np.arange(5.0)[:, None])
    assert points is not None
    assert np.isfinite(points).all()


def test_of_many_classes_the_most_frequent_have_marks() -> None:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(1000), np.repeat([7, 900], 50)])
    names = [f"猫 class {number}" for number in range(1000)]
    points = rng.normal(size=(len(labels), 2))
    drawn = scatter_figure([points, points], labels, names, ["one", "другой"])
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.width > 2 * image.height
