"""An exported ONNX file in the place of a trained model, for the loop of evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError
from vtrain.files.checkpoint import Checkpoint, ModelDescription
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.onnx_model import AGAIN, OnnxModel, load_onnx
from vtrain.models.base import ImageClassifier
from vtrain.models.layout import AttentionLayout


class OnnxClassifier(ImageClassifier):
    """Ask an exported file as if it were a model. Shape: (B, C, S, S) float -> (B, K)."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self.onnx = model
        self.num_classes, self.in_channels = len(model.classes), model.geometry.channels
        self.image_size = model.geometry.image_size
        # Where a model is, is asked of its parameters.
        self.nothing = torch.nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.onnx.run(images.numpy()))

    def forward_features(self, images: Tensor) -> Any:
        raise NotImplementedError("a file has logits and no features")

    def forward_head(self, features: Any) -> Any:
        raise NotImplementedError("a file has logits and no features")

    def attention_layout(self, height: int, width: int) -> AttentionLayout:
        raise NotImplementedError("a file has logits and shows no attention")

    def depth_groups(self) -> list[tuple[str, ...]]:
        return []


@dataclass(frozen=True)
class PixelGeometry(Preprocess):
    """The geometry of a model that normalises by itself."""

    def normalise(self, images: Tensor) -> Tensor:
        return images.to(torch.float32)


def load_onnx_model(path: Path) -> LoadedModel:
    """Load an exported file as a model with the facts of its checkpoint, but without weights.

    Raises:
        CheckpointError: It is absent, damaged, or was not written by `vtrain export`.
        ConfigError: onnxruntime is not installed.
    """
    model = load_onnx(path, for_many=True)
    # Either way `normalise` gives `forward` what the file takes.
    kind = PixelGeometry if model.takes_pixels else Preprocess
    try:
        described = ModelDescription(**json.loads(model.facts["model"]))
        config = model.facts["config"]
        dataset = json.loads(model.facts.get("dataset", "{}"))
        if not isinstance(dataset, dict):
            raise ValueError(dataset)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError("it does not state its model", path, AGAIN) from None
    checkpoint = Checkpoint(
        model=described,
        classes=model.classes,
        preprocess=model.geometry.to_dict(),
        dataset=dataset,
        config=config,
        metrics={},
        state={"model": {}, "ema": None},
        thresholds=model.thresholds,
    )
    geometry = kind.from_dict(model.geometry.to_dict())
    return LoadedModel(OnnxClassifier(model).eval(), model.classes, geometry, checkpoint, path)
