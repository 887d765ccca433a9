"""Build a run's dataset, its augmentation and its loaders."""

from typing import Any

import torch

from vtrain.config import Config, augment_parts, component
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.mixing import Mixing
from vtrain.data.datasets.samples import ArraySamples, Samples, Source
from vtrain.data.datasets.splits import Split
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.preprocess import Preprocess, TrainGeometry
from vtrain.distributed import Rank
from vtrain.registry import SOURCES
from vtrain.run.build.plan import batch_size
from vtrain.run.build.sections import section


def build_source(config: Config) -> Split:
    """Return the dataset; its class names are known, its images not yet read."""
    found, arguments = component(SOURCES, config.data)
    data = config.data
    with section("data"):
        source: Source = found(**arguments)
        return Split(
            source,
            val_fraction=data.val_fraction,
            fold=data.fold,
            fraction=data.fraction,
            limit=data.limit,
        )


def build_preprocess(config: Config, source: Source) -> Preprocess:
    """Return the geometry of evaluation, which the checkpoint will carry."""
    data = config.data
    assert data.image_size is not None, "a loaded config is complete"
    with section("data"):
        return Preprocess(
            data.image_size,
            data.mean or source.mean,
            data.std or source.std,
            resize=data.resize,
            crop_fraction=data.crop_fraction,
            interpolation=data.interpolation,
        )


def build_augment(config: Config, preprocess: Preprocess, samples: Samples) -> Augment:
    """Return what happens to each training image.

    Images that are already in memory at the model's size get their random resized crop on the
    device with everything else; all others while they are decoded.
    """
    size = preprocess.image_size
    stored = isinstance(samples, ArraySamples) and samples.array.shape[2:] == (size, size)
    with section("augment"):
        return Augment(
            size,
            preprocess.mean,
            preprocess.std,
            config.seed,
            preprocess.interpolation,
            not stored,
            **_augment_arguments(config, Augment),
        )


def build_mixing(config: Config, num_classes: int) -> Mixing:
    """Return what happens between the images of a batch."""
    with section("augment"):
        return Mixing(num_classes, config.seed, **_augment_arguments(config, Mixing))


def _augment_arguments(config: Config, constructor: type[Augment] | type[Mixing]) -> dict[str, Any]:
    (part,) = (part for part in augment_parts() if part.constructor is constructor)
    return {name: getattr(config.augment, name) for name, _, _ in part.parameters()}


def build_train_loader(
    config: Config, samples: Samples, geometry: TrainGeometry, device: torch.device, place: Rank
) -> TrainLoader:
    """Return the training batches of this process."""
    with section("data"):
        return TrainLoader(
            samples,
            geometry,
            batch_size=batch_size(config),
            seed=config.seed,
            rank=place,
            device=device,
            repeats=config.data.repeats,
            balanced=config.data.balanced,
            on_bad_image=config.data.on_bad_image,
            num_workers=config.data.num_workers,
            cache=config.data.cache,
        )


def build_val_loader(
    config: Config, samples: Samples, preprocess: Preprocess, device: torch.device, place: Rank
) -> EvalLoader:
    """Return the evaluation batches of this process."""
    return EvalLoader(
        samples,
        preprocess,
        batch_size=config.train.eval_batch_size or batch_size(config),
        rank=place,
        device=device,
        num_workers=config.data.num_workers,
        cache=config.data.cache,
    )
