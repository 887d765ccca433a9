"""Build a run's dataset, its augmentation and its loaders."""

from collections.abc import Mapping
from typing import Any

from vtrain.config import Config
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.augment.mixing import Mixing
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.samples import ArraySamples, Samples, Source
from vtrain.data.datasets.splits import Split
from vtrain.data.input import Input
from vtrain.data.inspect.fingerprint import split_of
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.registry import SOURCES, bind, section
from vtrain.run.build.plan import Plan


def build_source(
    config: Config, run: Mapping[str, Any] | None = None, listed: ImageFolder | None = None
) -> Split:
    """Return the dataset; its class names are known, its images not yet read.

    `run` is the fingerprint of the dataset that a run began with, which keeps its split. `listed`
    is the folder that the config was made for, if it was: it may hold a million files, and is not
    listed again.
    """
    kept, by_position = split_of(run)
    with section("data"):
        reader = bind(SOURCES[config.data.name], config.data)
        source: Source = listed if listed is not None and listed.is_of(config.data) else reader()
        # Outside of the source: every kind of dataset is split and cut short in the same way.
        return bind(Split, config.data)(source, None, kept, by_position)


def build_preprocess(config: Config, source: Source) -> Preprocess:
    """Return the geometry of evaluation, which the checkpoint will carry."""
    data = config.data
    assert data.image_size is not None, "a loaded config is complete"
    with section("data"):
        return bind(Preprocess, data)(
            data.image_size,
            data.mean or for_channels(source.mean, data.channels),
            data.std or for_channels(source.std, data.channels),
            data.channels,
        )


def for_channels(colours: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return the mean or std of three colours for so many channels.

    Of grey it is their mean, and of other channels, of which the colours say nothing, one half.
    """
    if channels == 3:
        return colours
    # Rounded, as the sum of three equal numbers may not be three times one of them.
    return (round(sum(colours) / 3, 9),) if channels == 1 else (0.5,) * channels


def build_input(
    config: Config, preprocess: Preprocess, samples: Samples, num_classes: int
) -> Input:
    """Return what happens to each training image, and between the images of a batch.

    Images that are already in memory at the model's size get their random resized crop on the
    device with everything else; all others while they are decoded.
    """
    size = preprocess.image_size
    # Images of another size are scaled by the workers, so that every batch is one tensor; so are
    # those of other channels.
    shape = (preprocess.channels, size, size)
    stored = isinstance(samples, ArraySamples) and samples.array.shape[1:] == shape
    # All parts of one section: a value that one of them refuses is a mistake in `augment`.
    with section("augment"):
        keys, mean, std = config.augment, preprocess.mean, preprocess.std
        augment = bind(Augment, keys)(
            bind(CropFlip, keys)(size, preprocess.interpolation, cropped=not stored),
            bind(Colour, keys)(mean),
            bind(Erasing, keys)(config.seed),
            mean,
            std,
            config.seed,
        )
        return Input(augment, bind(Mixing, config.augment)(num_classes, config.seed))


def build_train_loader(plan: Plan, geometry: TrainGeometry) -> TrainLoader:
    """Return the training batches of this process."""
    config = plan.config
    with section("data"):
        return bind(TrainLoader, config.data)(
            plan.train, geometry, plan.batch_size, config.seed, plan.rank, plan.device
        )
