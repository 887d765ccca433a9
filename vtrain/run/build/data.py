"""Build a run's dataset, its augmentation and its loaders."""

import torch

from vtrain.config import Config
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.augment.mixing import Mixing
from vtrain.data.datasets.samples import ArraySamples, Samples, Source
from vtrain.data.datasets.splits import Split
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.preprocess import Preprocess, TrainGeometry
from vtrain.distributed import Rank
from vtrain.registry import SOURCES, bind
from vtrain.run.build.plan import batch_size
from vtrain.run.build.sections import section


def build_source(config: Config) -> Split:
    """Return the dataset; its class names are known, its images not yet read."""
    with section("data"):
        source: Source = bind(SOURCES[config.data.name], config.data)()
        return bind(Split, config.data)(source)


def build_preprocess(config: Config, source: Source) -> Preprocess:
    """Return the geometry of evaluation, which the checkpoint will carry."""
    data = config.data
    assert data.image_size is not None, "a loaded config is complete"
    with section("data"):
        return bind(Preprocess, data)(
            data.image_size, data.mean or source.mean, data.std or source.std
        )


def build_augment(config: Config, preprocess: Preprocess, samples: Samples) -> Augment:
    """Return what happens to each training image.

    Images that are already in memory at the model's size get their random resized crop on the
    device with everything else; all others while they are decoded.
    """
    size = preprocess.image_size
    stored = isinstance(samples, ArraySamples) and samples.array.shape[2:] == (size, size)
    with section("augment"):
        keys, mean, std = config.augment, preprocess.mean, preprocess.std
        return bind(Augment, keys)(
            bind(CropFlip, keys)(size, preprocess.interpolation, cropped=not stored),
            bind(Colour, keys)(mean),
            bind(Erasing, keys)(config.seed),
            mean,
            std,
            config.seed,
        )


def build_mixing(config: Config, num_classes: int) -> Mixing:
    """Return what happens between the images of a batch."""
    with section("augment"):
        return bind(Mixing, config.augment)(num_classes, config.seed)


def build_train_loader(
    config: Config, samples: Samples, geometry: TrainGeometry, device: torch.device, place: Rank
) -> TrainLoader:
    """Return the training batches of this process."""
    with section("data"):
        return bind(TrainLoader, config.data)(
            samples,
            geometry,
            batch_size=batch_size(config),
            seed=config.seed,
            rank=place,
            device=device,
        )


def build_val_loader(
    config: Config, samples: Samples, preprocess: Preprocess, device: torch.device, place: Rank
) -> EvalLoader:
    """Return the evaluation batches of this process."""
    return bind(EvalLoader, config.data)(
        samples,
        preprocess,
        batch_size=config.train.eval_batch_size or batch_size(config),
        rank=place,
        device=device,
    )
