"""A planted task: the class of a photograph is a small mark at a random place on it.

Whoever explains a model that solves it must find the mark: where it is, is known.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor

from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

SIDE, MARK, CLASSES = 32, 6, 4
MODELS_32 = {
    "vit_ti": {"patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2},
    "deit_ti_distilled": {"patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2},
    "tnt_ti": {"patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 2, "inner_stride": 2},
    "swin_t": {"patch_size": 2, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (1, 2, 4),
               "window_size": 4},
    "swinv2_t": {"patch_size": 2, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (1, 2, 4),
                 "window_size": 4},
}  # fmt: skip
"""One of each family, small enough to learn the task in a minute."""


@dataclass(frozen=True)
class Planted:
    """Images (N, 3, 32, 32) uint8, their classes (N,), and where the mark is (N, 32, 32)."""

    images: Tensor
    targets: Tensor
    marks: Tensor


def patterns() -> Tensor:
    """Return the mark of each class, a colour around white. Shape: -> (4, 3, 6, 6) uint8."""
    marks = np.full((CLASSES, MARK, MARK, 3), 255)
    colours = [(255, 0, 0), (0, 220, 0), (0, 0, 255), (255, 0, 255)]
    inside = np.s_[MARK // 3 : -(MARK // 3)]
    for mark, colour in zip(marks, colours, strict=True):
        centre = mark[inside, inside].copy()
        mark[:] = colour
        mark[inside, inside] = centre
    return torch.tensor(marks).permute(0, 3, 1, 2).to(torch.uint8)


def photographs(count: int, rng: np.random.Generator) -> Tensor:
    """Return squares cut from scikit-learn's two photographs. Shape: -> (N, 3, 32, 32) uint8."""
    whole = load_sample_images().images  # each (427, 640, 3)
    crops = []
    for _ in range(count):
        picture, zoom = whole[rng.integers(len(whole))], int(rng.integers(1, 5))
        top, left = (rng.integers(side - SIDE * zoom) for side in picture.shape[:2])
        crop = picture[top : top + SIDE * zoom : zoom, left : left + SIDE * zoom : zoom]
        crops.append(crop.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(crops))


def plant(backgrounds: Tensor, rng: np.random.Generator) -> Planted:
    """Put a mark on each background. Shape: (N, 3, 32, 32) uint8."""
    images, marks = backgrounds.clone(), torch.zeros(len(backgrounds), SIDE, SIDE, dtype=torch.bool)
    targets = torch.from_numpy(rng.integers(CLASSES, size=len(images)))
    drawn = patterns()
    for i, target in enumerate(targets.tolist()):
        top, left = rng.integers(SIDE - MARK + 1, size=2)
        place = np.s_[top : top + MARK, left : left + MARK]
        images[i, :, *place] = drawn[target]
        marks[i, *place] = True
    return Planted(images, targets, marks)


def normalised(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def trained(name: str, backgrounds: Tensor, steps: int, seed: int = 0) -> ImageClassifier:
    """Return a model that has learnt the task, each time with new marks on the backgrounds."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model: ImageClassifier = MODELS[name](
        num_classes=CLASSES, image_size=SIDE, **MODELS_32[name], drop_path_rate=0.0
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.2)
    model.train()
    for _ in range(steps):
        chosen = torch.from_numpy(rng.integers(len(backgrounds), size=64))
        batch = plant(backgrounds[chosen], rng)
        output = model(normalised(batch.images))
        heads = [output] if isinstance(output, Tensor) else output
        loss = sum(F.cross_entropy(logits, batch.targets) for logits in heads)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def found_share(values: Tensor, marks: Tensor, share: float = 0.1) -> Tensor:
    """Return how much of each mark is among the hottest pixels of its map.

    Shape: values (N, rows, columns), marks (N, 32, 32) -> (N,).
    """
    pixels = F.interpolate(values[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
    count = int(share * SIDE * SIDE)
    hottest = torch.zeros_like(pixels.flatten(1), dtype=torch.bool)
    hottest.scatter_(1, pixels.flatten(1).topk(count, dim=1).indices, True)
    return (hottest.view_as(marks) & marks).flatten(1).sum(1) / marks.flatten(1).sum(1)
