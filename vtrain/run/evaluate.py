"""`vtrain eval`: the metrics of a checkpoint, from nothing but the checkpoint and the images."""

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vtrain import distributed
from vtrain.api import load_model
from vtrain.config import config_from_text
from vtrain.distributed import Rank
from vtrain.engine.device import autocast, choose_device, choose_precision
from vtrain.engine.evaluate import evaluate
from vtrain.engine.state import Metrics
from vtrain.errors import CheckpointError, ConfigError, DataError
from vtrain.files.runs import checkpoint_of
from vtrain.run.parts import build_source, build_val_loader


def evaluate_checkpoint(
    ckpt: Path, overrides: Iterable[str], split: Literal["train", "val"]
) -> Metrics:
    """Evaluate a checkpoint with the preprocessing, precision and batch size of its run.

    Args:
        ckpt: A checkpoint file or a run folder.
        overrides: Changes to the stored config; those of `data` choose other images.
        split: Which images of the dataset.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        DataError: The images cannot be used, or have classes that the model does not know.
    """
    path = checkpoint_of(ckpt)
    loaded = load_model(path)
    try:
        config = config_from_text(loaded.content["config"], f"config in {path}", overrides)
    except ConfigError as error:
        if overrides:
            raise
        raise CheckpointError("the stored config is not valid", path, error.what) from error
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    source = build_source(config)
    samples = source.split(split)
    samples = dataclasses.replace(
        samples,  # type: ignore[type-var] # every kind of samples is a dataclass
        targets=renumbered(samples.targets, source.classes, loaded.classes),
    )
    loader = build_val_loader(config, samples, loaded.geometry, device, Rank())
    return evaluate(
        loaded.model.to(device),
        loader.batches(),
        loaded.geometry.normalise,
        partial(autocast, device, precision),
        distributed.all_sum,
    )


def renumbered(targets: Tensor, classes: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Give targets the numbers that a model's classes have, by name. Shape: (N,) -> (N,).

    Raises:
        DataError: A class of the images is not among the model's.
    """
    strangers = [name for name in classes if name not in known]
    if strangers:
        raise DataError(
            f"the model does not know class '{strangers[0]}' ({len(strangers)} of {len(classes)} "
            f"classes are unknown; the model has {len(known)})",
            hint="evaluate on a dataset with the classes that the model was trained for",
        )
    return torch.tensor([known.index(name) for name in classes])[targets]
