"""From a decoded image to the (3, S, S) bytes that a model sees, in evaluation and in training.

`Preprocess` is the deterministic geometry of evaluation. It is stored in the checkpoint, so that
fit, eval and predict cannot differ. `TrainGeometry` is what a loader's worker does to one training
image; everything after it runs on whole batches on the device (`vtrain.data.augment`).
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from vtrain.data.augment.crops import resized_crop_box
from vtrain.data.augment.draws import Stream
from vtrain.rng import hash_ints, row

Resize = Literal["crop", "squash", "letterbox"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """The evaluation geometry and the normalisation of a model.

    Args:
        image_size: Pixels per side of the result.
        mean: Mean of each channel over the training set, of values in [0, 1].
        std: Standard deviation of each channel.
        resize: `crop` scales the shorter side to `image_size / crop_fraction` and takes the centre;
            `squash` scales both sides to `image_size`; `letterbox` scales the longer side to
            `image_size` and fills the rest with the mean colour.
        crop_fraction: How much of the shorter side the centre crop keeps.
        interpolation: The resampling filter, widened when shrinking (antialiased) as in Pillow.

    Shape: any RGB image -> (3, S, S) uint8. An image that already has S x S pixels is not changed.

    Raises:
        ValueError: A value is out of range, or `crop_fraction` is given where nothing is cropped.
    """

    image_size: int
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    _: KW_ONLY
    resize: Resize = "crop"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction ({self.crop_fraction}) must be in (0, 1]")
        if self.resize != "crop" and self.crop_fraction != 1:
            raise ValueError(
                f"crop_fraction ({self.crop_fraction}) needs resize ({self.resize}) to be crop"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std ({self.std}) must be positive")

    def __call__(self, image: Image.Image) -> Tensor:
        S = self.image_size
        if image.size == (S, S):  # small datasets have the model's size as they are
            return to_bytes(image)
        filter_ = Image.Resampling[self.interpolation.upper()]
        if self.resize == "squash":
            return to_bytes(image.resize((S, S), filter_))
        # The floor is the convention of published evaluation numbers: 224 / 0.875 = 256.
        target = int(S / self.crop_fraction) if self.resize == "crop" else S
        # Which side becomes `target`: the shorter one is cropped to S, the longer one fits into S.
        reference = min(image.size) if self.resize == "crop" else max(image.size)
        width, height = (max(1, target * side // reference) for side in image.size)
        image = image.resize((width, height), filter_)
        left, top = round((width - S) / 2), round((height - S) / 2)
        if self.resize == "crop":
            return to_bytes(image.crop((left, top, left + S, top + S)))
        red, green, blue = (round(255 * m) for m in self.mean)
        canvas = Image.new("RGB", (S, S), (red, green, blue))
        canvas.paste(image, (-left, -top))
        return to_bytes(canvas)

    def normalise(self, images: Tensor) -> Tensor:
        """Scale a batch to zero mean and unit variance. Shape: (B, 3, S, S) uint8 -> float32."""
        return normalise(images, self.mean, self.std)

    def denormalise(self, images: Tensor) -> Tensor:
        """Undo `normalise`, to look at images. Shape: (B, 3, H, W) float -> uint8."""
        scale, shift = _coefficients(self.mean, self.std, images.device)
        return ((images - shift) / scale).round().clamp(0, 255).to(torch.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Undo `to_dict`, also after a trip through JSON or YAML."""
        triples = {key: tuple(values[key]) for key in ("mean", "std")}
        return cls(**{**values, **triples})


@dataclass(frozen=True)
class TrainGeometry:
    """What a worker does to one training image; `Augment.geometry` makes it.

    A random crop by `crop_scale` and `crop_ratio`, as `CropFlip` explains them, or without a scale
    that of evaluation; then more transforms of the (3, S, S) uint8 image.

    Shape: an RGB image, its index in the dataset, epoch -> (3, S, S) uint8.
    """

    preprocess: Preprocess
    seed: int
    crop_scale: tuple[float, float] | None
    crop_ratio: tuple[float, float]
    transforms: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def varies(self) -> bool:
        """Whether the result depends on the epoch, and so must not be kept."""
        return self.crop_scale is not None or bool(self.transforms)

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        pixels = self._cropped(image, index, epoch)
        if not self.transforms:
            return pixels
        # Transforms draw from torch's global generator: seeded for this image, restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                hash_ints(self.seed, epoch, index, Stream.TRANSFORMS)
            )
            for transform in self.transforms:
                pixels = transform(pixels)
        return pixels

    def _cropped(self, image: Image.Image, index: int, epoch: int) -> Tensor:
        if self.crop_scale is None:
            return self.preprocess(image)
        draw = row(index, self.seed, epoch, Stream.CROP)
        width, height = image.size
        top, left, h, w = resized_crop_box(draw, height, width, self.crop_scale, self.crop_ratio)
        crop = np.array(image.crop((left, top, left + w, top + h)))  # (h, w, 3)
        return _scaled(torch.from_numpy(crop), self.preprocess)


def _scaled(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Scale bytes as torchvision scales a tensor, which is three times as fast as Pillow.

    The two round at other places: a result is within two steps of 255 of Pillow's. Evaluation does
    not come here.

    Shape: (h, w, 3) uint8 -> (3, S, S) uint8.
    """
    S, mode = preprocess.image_size, preprocess.interpolation
    smooth = mode != "nearest"
    batch = pixels.permute(2, 0, 1)[None]
    scaled = F.interpolate(
        batch, (S, S), mode=mode if smooth else "nearest-exact", antialias=smooth
    )
    return scaled[0].contiguous()


def to_bytes(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image. Shape: (3, H, W) uint8."""
    assert image.mode == "RGB", f"the decoder gives RGB, not {image.mode}"
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Scale bytes to [0, 1], subtract the mean and divide by the standard deviation.

    Shape: (B, 3, H, W) uint8 -> the same in float32.
    """
    scale, shift = _coefficients(mean, std, images.device)
    return images.to(torch.float32).mul_(scale).add_(shift)


@cache  # a copy to the GPU in every step would wait for it
def _coefficients(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    # (x / 255 - mean) / std = x * scale + shift: one multiplication and one addition a value.
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale[:, None, None], shift[:, None, None]
