"""Test-time augmentation: several views of each image, whose probabilities are averaged.

B images, V views, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from torch import Tensor, nn

from vtrain.data.preprocess import Preprocess
from vtrain.inference.tasks import ONE_CLASS, Task

Views: TypeAlias = Literal["flip", "five-crop"]
NAMES: tuple[Views, ...] = get_args(Views)
MARGIN = 7 / 8
"""The part of the shorter side that a crop keeps where the model itself sees all of it."""


def geometry_for(views: Views, geometry: Preprocess) -> Preprocess:
    """Return how images are prepared for these views.

    Five crops are cut out of a larger square: where the model sees the centre of an image, out of
    what it is the centre of, at the same scale; else out of the image at 8/7 of the size.
    """
    if views == "flip":
        return geometry
    size = int(geometry.image_size / (geometry.crop_fraction if _crops(geometry) else MARGIN))
    return replace(geometry, image_size=size, crop_fraction=1.0)


def views_of(views: Views, images: Tensor, size: int) -> Iterator[Tensor]:
    """Yield each view of a batch.

    `flip` is the images and their mirror images, `five-crop` the centre and the corners (Krizhevsky
    et al., NIPS 2012, section 4.1).

    Shape: images (B, C, H, W) -> each (B, C, size, size).
    """
    if views == "flip":
        yield images
        yield images.flip(-1)
        return
    height, width = (side - size for side in images.shape[2:])
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    for top, left in [(height // 2, width // 2), *corners]:
        yield images[..., top : top + size, left : left + size]


class OverViews(nn.Module):
    """A model that is asked about several views of each image.

    Shape: (B, C, H, W), prepared by `geometry_for` -> (B, K), logits of the mean probabilities.
    """

    def __init__(self, model: nn.Module, views: Views, size: int, task: Task) -> None:
        super().__init__()
        self.model, self.views, self.size, self.task = model, views, size, task

    def forward(self, images: Tensor) -> Tensor:
        found = [self.model(view).float() for view in views_of(self.views, images, self.size)]
        return self.task.mean_of(found)


@dataclass(frozen=True)
class Asked:
    """A model as it is asked: by itself or about several views, with the geometry for it."""

    model: nn.Module
    geometry: Preprocess


def asked_about(
    model: nn.Module, geometry: Preprocess, views: Views | None, task: Task = ONE_CLASS
) -> Asked:
    """Return a model that is asked about these views; None is the image alone."""
    if views is None:
        return Asked(model, geometry)
    over = OverViews(model, views, geometry.image_size, task)
    # In evaluation mode like the model that it holds, which it takes along.
    return Asked(over.train(model.training), geometry_for(views, geometry))


def _crops(geometry: Preprocess) -> bool:
    return geometry.resize == "crop" and geometry.crop_fraction < 1
