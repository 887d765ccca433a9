"""With which mean and std the published weights of a program were trained, where no file says so.

Half and half, which is values in [-1, 1]: Google's ViT (vit_jax/input_pipeline.py) and so timm's
ports of it (`_cfg` of timm/models/vision_transformer.py); TNT (`default_cfgs` of
tnt_pytorch/tnt.py, `_cfg` of timm/models/tnt.py, configs/tnt of mmpretrain).

ImageNet's: the scripts of DeiT, DeiT III, Swin, MAE, SimMIM, MoCo v3, DINO and DINOv2, each in the
file of its transforms; torchvision's `transforms()` of its weights; timm's Swin and DeiT;
`preprocessor_config.json` of microsoft/swin* on the hub; configs/_base_ of mmpretrain for Swin.

mmpretrain's and transformers' ViT and DeiT have the same names and not the same mean: of these,
and of what else is not here, nothing is known.
"""

import re
from collections.abc import Iterable

from vtrain.data.datasets.samples import IMAGENET_MEAN, IMAGENET_STD
from vtrain.files.weights_colours import Colours

Pair = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Pair = (IMAGENET_MEAN, IMAGENET_STD)
HALF: Pair = ((0.5,) * 3, (0.5,) * 3)

BY_MAPPING = {
    "Google ViT": HALF,
    "torchvision ViT": IMAGENET,
    "torchvision Swin": IMAGENET,
    "Hugging Face Swin": IMAGENET,
    "mmpretrain Swin": IMAGENET,
    "mmpretrain SwinV2": IMAGENET,
    "mmpretrain TNT": HALF,
    "MAE": IMAGENET,
    "MoCo v3": IMAGENET,
    "DeiT III official": IMAGENET,
    "Swin official": IMAGENET,
    "TNT official": HALF,
    "TNT legacy": HALF,
    "DINOv2": IMAGENET,
}
"""By the names that a file uses, as `KeyMapping.name`."""
BY_ARCH = (
    (r"(vit_\w+_patch(16|32)_(224|384)(\.augreg\w*)?|tnt_\w+)$", HALF),
    (r"(deit3?|swinv2|swin)_\w+$", IMAGENET),
)
"""By timm's name of the model, which its training script keeps under `arch`."""
BY_NAME = (
    ("timm's Swin", r"layers\.\d+\.downsample\.", IMAGENET),
    ("timm's TNT", r"pixel_pos$", HALF),
    ("distilled DeiT", r"dist_token$", IMAGENET),
)
"""Of timm's names, by one that only some models have."""
BY_PLACE = (
    ("DeiT and MAE", r"model(_ema, averaged)?$", IMAGENET),
    ("DINO", r"teacher$", IMAGENET),
)
"""Of timm's names, by the key that their authors' scripts keep weights under."""


def published_colours(
    mapping: str, names: Iterable[str], *, arch: str, place: str
) -> Colours | None:
    """Return the mean and std of the published weights that a file is of, or looks like.

    Args:
        mapping: Whose names the file uses: `KeyMapping.name`.
        names: Those names, translated to ours.
        arch: What timm's script says of the model, else empty.
        place: The key of the file that the weights were under, else empty.
    """
    if mapping in BY_MAPPING:
        return _said(BY_MAPPING[mapping], mapping)
    if mapping != "timm":
        return None
    if arch:  # then timm's own script has written it
        known = (pair for pattern, pair in BY_ARCH if re.match(pattern, arch))
        return _said(next(known, None), f"timm's {arch:.60}")
    names = list(names)
    for whose, pattern, pair in BY_NAME:
        if any(re.match(pattern, name) for name in names):
            return _said(pair, whose)
    for whose, pattern, pair in BY_PLACE:
        if re.match(pattern, place):
            return _said(pair, whose)
    return None


def _said(pair: Pair | None, whose: str) -> Colours | None:
    return None if pair is None else Colours(*pair, f"the published weights of {whose}")
