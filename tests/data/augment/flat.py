"""The augmentation by the flat keys of its section, as a config gives them."""

from typing import Any

from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.geometry import Interpolation
from vtrain.registry import Component

Triple = tuple[float, float, float]


def augment_of(
    size: int,
    mean: Triple,
    std: Triple,
    seed: int = 0,
    interpolation: Interpolation = "bicubic",
    cropped: bool = True,
    **keys: Any,
) -> Augment:
    """Give each part its own keys."""
    crop, colour, erasing, rest = (
        {name: keys.pop(name) for name, *_ in Component("", part, {}).parameters() if name in keys}
        for part in (CropFlip, Colour, Erasing, Augment)
    )
    assert not keys, f"no part has the keys {list(keys)}"
    parts = CropFlip(size, interpolation, cropped, **crop), Colour(mean, **colour)
    return Augment(*parts, Erasing(seed, **erasing), mean, std, seed, **rest)
