"""`vtrain fit FOLDER`: a config for a folder of somebody's own images.

What is chosen depends on the number and the size of the images and on the device. It is said with
its reasons, and the run's `config.yaml` has all of it, to be changed and trained again.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from vtrain.config import Config
from vtrain.config.read import validated
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.samples import FileSamples
from vtrain.data.progress import said_if_long
from vtrain.device import choose_device
from vtrain.errors import ConfigError, DataError, counted, printable
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import checkpoint_of
from vtrain.files.yaml import dump_yaml, parse_yaml
from vtrain.models.weights.sources import REMOTE, local

log = logging.getLogger(__name__)

LOOKED_AT = 32
"""Images whose size is read: enough for a median."""
FEW = 2000
"""Training images below which batches are small and more of them are held out."""
SEEN = 30_000
"""Images that a model from scratch sees at least, over all epochs."""
TOKENS = 8
"""Patches per side of an image: 64 in all, which a processor can train."""
WEIGHTS = "model.pretrained="
OF_THE_FOLDER = ("data", "data.name", "data.root")
"""Keys that say what the folder says already: its images were looked at, not others."""


@dataclass(frozen=True)
class Photos:
    """What a folder of images is like."""

    root: Path
    images: int
    """Training images, before any are held out."""
    classes: int
    side: int
    """Median of the shorter sides, in pixels."""
    has_val: bool
    source: ImageFolder | None = field(default=None, compare=False, repr=False)
    """The folder, listed."""

    @classmethod
    def of(cls, root: Path, follow_links: bool = False) -> "Photos":
        """Look at a folder.

        Raises:
            DataError: It is not laid out as `image_folder` needs it, or no image can be read.
        """
        # As the config will name it: the run takes the listing over.
        source = ImageFolder(root=root.absolute(), follow_links=follow_links)
        train = source.split("train")
        has_val = "val" in source.folders
        with said_if_long("looking at some of the images"):
            side = int(median(_sides(train)))
        return cls(root, len(train), len(source.classes), side, has_val, source)


def _sides(samples: FileSamples) -> list[int]:
    """Return the shorter sides of some images, evenly spread over the classes."""
    sides, unreadable = [], ""
    for index in range(0, len(samples), max(1, len(samples) // LOOKED_AT)):
        try:
            sides.append(min(samples.image(index).size))
        except DataError as error:  # the run itself says what is done about unreadable images
            unreadable = error.what
    if not sides:
        raise DataError("no image can be read", samples.root, f"of the last: {unreadable}")
    return sides


def photos_config(root: Path, overrides: Sequence[str] = (), start: str | None = None) -> Config:
    """Return the config that suits a folder of images, and say why; see `chosen_for`."""
    return chosen_for(root, overrides, start)[0]


def chosen_for(
    root: Path, overrides: Sequence[str] = (), start: str | None = None
) -> tuple[Config, ImageFolder]:
    """Return the config that suits a folder of images, and the folder as it was listed; say why.

    Args:
        root: A folder as `image_folder` reads it.
        overrides: `dotted.key=value`, which change what was chosen.
        start: Weights to fine-tune, as `model.pretrained` takes them; None trains from scratch.

    Raises:
        DataError: The folder is not laid out so, or holds nothing readable.
        ConfigError: An override is wrong, or nothing says which model the weights are for.
        CheckpointError: `start` is a checkpoint that cannot be read.
    """
    for override in overrides:
        if (key := override.partition("=")[0]) in OF_THE_FOLDER:
            what = f"{key} is given beside a folder of images"
            raise ConfigError(what, "command line", "name one of them")
    overrides, start = _start(overrides, start)
    photos = Photos.of(root, "data.follow_links=true" in overrides)
    on_gpu = choose_device("auto").type == "cuda"
    if start is None:
        chosen = _from_scratch(photos, on_gpu)
        if _names_model(overrides):
            # Width and depth are those of that name; only the patches have to suit the images.
            chosen["model"] = {"patch_size": _patch_size(overrides, chosen["data"]["image_size"])}
    else:
        chosen = _fine_tuned(photos, start, overrides)
    document = parse_yaml(dump_yaml(chosen), f"config made for {root}")
    config = validated(document, overrides)
    given = {override.partition("=")[0] for override in overrides}
    _say(photos, config, "a GPU" if on_gpu else "a processor", given)
    assert photos.source is not None, "it was just listed"
    return config, photos.source


def _say(photos: Photos, config: Config, device: str, given: Collection[str]) -> None:
    """Say what was chosen, each with its reason; what was `given` was not chosen."""
    model, data, train = config.model, config.data, config.train
    start = f"from {model.pretrained}" if model.pretrained else f"from scratch, on {device}"
    held_out = data.model_dump()["val_fraction"]
    chosen = "train.epochs" not in given
    lines = [
        f"photos  {counted(photos.images, 'image')} of "
        f"{counted(photos.classes, 'class', 'classes')} in "
        f"{printable(str(photos.root))}",
        f"        model     {model.name} {start}",
        f"        pixels    {data.image_size}; the median shorter side is {photos.side}",
        f"        epochs    {train.epochs}{'; the fewer images, the more' * chosen}",
        f"        held out  {held_out:.0%} of the images, for validation" if held_out else "",
        "        damaged   images are named and left out, unless they are many",
        "        KEY=VALUE behind the folder changes any of it: `vtrain keys` lists them",
    ]
    for line in filter(None, lines):
        log.info("%s", line)


def _common(photos: Photos) -> dict[str, Any]:
    """Return what does not depend on where the weights start."""
    few = photos.images < FEW
    held_out = 0.0 if photos.has_val else 0.2 if few else 0.1
    return {
        "data": {
            "name": "image_folder",
            "root": str(photos.root),
            "val_fraction": held_out,
            "on_bad_image": "skip",  # one damaged file among somebody's own must not end it all
        },
        "train": {
            "batch_size": 32 if few else 128,
            "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        },
    }


def _from_scratch(photos: Photos, on_gpu: bool) -> dict[str, Any]:
    """Return a small ViT with strong augmentation: the fewer the images, the more epochs."""
    largest = 128 if on_gpu else 64  # pixels; from scratch, more show little more
    size = next((s for s in (128, 64, 32) if s <= min(photos.side, largest)), 32)
    config = _common(photos)
    config["model"] = {
        "name": "vit_ti",
        "patch_size": size // TOKENS,
        "embed_dim": 192 if on_gpu else 128,
        "depth": 9 if on_gpu else 6,
        "num_heads": 3 if on_gpu else 4,
        "mlp_ratio": 2,
        "pooling": "mean",
    }
    config["data"]["image_size"] = size
    config["augment"] = {
        "crop": "resized",
        "crop_scale": [0.35, 1.0],
        "policy": {"name": "trivialaugment_wide"},
    }
    config["optimizer"] = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05}
    config["schedule"] = {"name": "cosine", "warmup_epochs": 3}
    config["train"]["epochs"] = min(100, max(20, round(SEEN / photos.images)))
    return config


def _fine_tuned(photos: Photos, start: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return a short run with small steps, which are smaller still near the images."""
    config = _common(photos)
    config["model"], size = _model_of(start, overrides)
    if size is not None:
        config["data"]["image_size"] = size
    config["augment"] = {"crop": "resized", "crop_scale": [0.5, 1.0]}
    config["optimizer"] = {"name": "adamw", "lr": 5e-4, "weight_decay": 0.05, "layer_decay": 0.75}
    config["schedule"] = {"name": "cosine", "warmup_epochs": 1}
    # Weights that know images already need to see a third as many.
    config["train"]["epochs"] = min(40, max(10, round(SEEN / 3 / photos.images)))
    return config


def _model_of(start: str, overrides: Sequence[str]) -> tuple[dict[str, Any], int | None]:
    """Return the section `model` that the weights are for, and the pixels per side they know."""
    if _names_model(overrides):
        return {"pretrained": start}, None
    # What lies on the Hub is never a checkpoint of vtrain, so nothing is looked up for it.
    path = Path(start) if start.startswith(REMOTE) else checkpoint_of(local(start))
    if path.suffix != ".pt" or not path.exists():
        what = "other programs' weights do not say which model they are for"
        raise ConfigError(what, start, "add its name, for example model.name=vit_s")
    model = Checkpoint.load(path).model
    return {"name": model.name, **model.arguments, "pretrained": str(path)}, model.image_size


def _start(overrides: Sequence[str], start: str | None) -> tuple[list[str], str | None]:
    """Return the overrides without those that name weights, and the weights to fine-tune."""
    # The small model that is chosen from scratch has a shape of its own, which no weights fit.
    others = [override for override in overrides if not override.startswith(WEIGHTS)]
    named = [override.removeprefix(WEIGHTS) for override in overrides if override not in others]
    if start is not None and named:
        what = "--from and model.pretrained both name weights"
        raise ConfigError(what, "command line", "leave one of them out")
    chosen = next((text for text in named[-1:] if text not in {"", "null", "~"}), start)
    return others, chosen


def _names_model(overrides: Sequence[str]) -> bool:
    return any(override.startswith(("model.name=", "model=")) for override in overrides)


def _patch_size(overrides: Sequence[str], image_size: int) -> int:
    """Return the pixels per side of a patch: Swin merges patches by itself, three times."""
    of_swin = any("swin" in override for override in overrides)
    return max(2, image_size // (TOKENS * 2 if of_swin else TOKENS))
