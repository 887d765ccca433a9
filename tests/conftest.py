import pytest
import torch

from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

# The smallest arguments that still have every part of a model; 32-pixel images, 10 classes.
TINY = {
    "vit": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "deit": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "tnt": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "swin": {"patch_size": 2, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)},
}


def tiny(name: str, **arguments: object) -> ImageClassifier:
    """Build the model `name` small enough to run in milliseconds, with seeded weights."""
    family = next(family for family in TINY if name.startswith(family))
    torch.manual_seed(0)
    model: ImageClassifier = MODELS[name](
        **{"num_classes": 10, "image_size": 32, **TINY[family], **arguments}
    )
    return model


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
