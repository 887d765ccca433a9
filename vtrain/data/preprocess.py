"""From a decoded image to the (C, S, S) bytes that a model sees in evaluation.

It is stored in the checkpoint, so that fit, eval and predict cannot differ. `TrainGeometry` in
`vtrain.data.train_geometry` is its counterpart in training.

Importing this imports no torch: of an exported model only the geometry is needed.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from PIL import Image
from pydantic import Field

from vtrain.data.geometry import Interpolation, PerChannel, Resize, ValueRange, fit_image, placed
from vtrain.registry import CHANGEABLE_ON_RESUME

if TYPE_CHECKING:
    from torch import Tensor

BEFORE = {"reducing_gap": None}
"""What was done before there was a key for it, and no key is stored."""


@dataclass(frozen=True)
class Preprocess:
    """The evaluation geometry and the normalisation of a model.

    Args:
        image_size: Pixels per side of the result.
        mean: Mean of each channel over the training set, of values in [0, 1].
        std: Standard deviation of each channel.
        channels: Of the result: 3 are red, green and blue, 1 is grey; of any other number the file
            has to have as many.
        resize: `crop` scales the shorter side to `image_size / crop_fraction` and takes the centre;
            `squash` scales both sides to `image_size`; `letterbox` scales the longer side to
            `image_size` and fills the rest with the mean colour.
        crop_fraction: How much of the shorter side the centre crop keeps.
        interpolation: The resampling filter, widened when shrinking (antialiased) as in Pillow.
        reducing_gap: A JPEG of a megapixel or more is decoded at a half, a quarter or an eighth of
            its width and height where that leaves this many times the pixels that it is scaled to;
            null always decodes it in full.
        value_range: The values of black and white in images of more than 8 bits, of all channels;
            `auto` takes what each file declares, or what its type holds. Others are not changed.
        icc: Whether images with a colour profile, as of telephones with wider colours, are
            converted to sRGB.

    Shape: any decoded image -> (C, S, S) uint8. An image of S x S pixels already is not scaled.

    Raises:
        ValueError: A value is out of range, or `crop_fraction` is given where nothing is cropped.
    """

    image_size: int
    mean: PerChannel = (0.5, 0.5, 0.5)
    std: PerChannel = (0.5, 0.5, 0.5)
    channels: int = 3
    _: KW_ONLY
    resize: Resize = "crop"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Interpolation = "bicubic"
    reducing_gap: Annotated[Annotated[float, Field(ge=1, le=100)] | None, CHANGEABLE_ON_RESUME] = (
        2.0
    )
    value_range: ValueRange = "auto"
    icc: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction ({self.crop_fraction}) must be in (0, 1]")
        if self.resize != "crop" and self.crop_fraction != 1:
            raise ValueError(
                f"crop_fraction ({self.crop_fraction}) needs resize ({self.resize}) to be crop"
            )
        if not isinstance(self.value_range, str) and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range ({list(self.value_range)}) must ascend")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                what = f"{name} ({list(values)}) must have a number for each channel"
                raise ValueError(f"{what}, and channels is {self.channels}")
        if min(self.std) <= 0:
            raise ValueError(f"std ({self.std}) must be positive")

    def fit(self, image: Image.Image) -> Image.Image:
        """Bring a decoded image to S x S pixels and to its channels.

        Raises:
            DataError: It has not so many channels.
        """
        size, fraction = self.image_size, self.crop_fraction
        how = self.resize, fraction, self.interpolation, self.mean
        which = self.reducing_gap, self.value_range, self.channels, self.icc
        return fit_image(image, size, *how, *which)

    def __call__(self, image: Image.Image) -> "Tensor":
        from vtrain.data.normalise import to_bytes

        return to_bytes(self.fit(image))

    def seen_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return which part of an image of this size, (width, height), the S x S square shows.

        As (left, top, right, bottom) in the image's own pixels; beyond its border where the square
        was filled up.
        """
        S, (width, height) = self.image_size, size
        # Such an image is not scaled, whatever `resize` says.
        if size == (S, S):
            return (0.0, 0.0, width, height)
        (w, h), left, top = placed(size, S, self.resize, self.crop_fraction)
        across, down = width / w, height / h  # pixels of the image for each of the scaled one
        return (left * across, top * down, (left + S) * across, (top + S) * down)

    def normalise(self, images: "Tensor") -> "Tensor":
        """Scale a batch to zero mean and unit variance. Shape: (B, C, S, S) uint8 -> float32."""
        from vtrain.data.normalise import normalise

        return normalise(images, self.mean, self.std)

    def denormalise(self, images: "Tensor") -> "Tensor":
        """Undo `normalise`, to look at images. Shape: (B, C, H, W) float -> uint8."""
        from vtrain.data.normalise import denormalise

        return denormalise(images, self.mean, self.std)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for the checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`, also after a trip through JSON or YAML."""
        # JSON and YAML have lists alone, and a list is unequal to the tuple that it was.
        stated = {**BEFORE, **values}
        lists = {key: tuple(value) for key, value in stated.items() if isinstance(value, list)}
        return cls(**{**stated, **lists})
