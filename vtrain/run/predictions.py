"""Keep what a model says of a split, for `vtrain report`."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from vtrain.data.datasets.samples import Samples
from vtrain.data.inspect.fingerprint import fingerprint
from vtrain.errors import DataError, StorageError
from vtrain.files.runs import RunFolder
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.outputs import Outputs
from vtrain.report.predictions import Predictions

log = logging.getLogger(__name__)


def predictions_of(
    outputs: Sequence[Outputs], samples: Samples, loaded: LoadedModel, split: str
) -> Predictions | None:
    """Bring the outputs of all batches from the device and name their images.

    Returns:
        The predictions, or None of a model that has diverged.
    """
    indices = torch.cat([output.indices for output in outputs]).tolist()
    about = {
        "split": split,
        "step": loaded.checkpoint.state.get("step"),
        "images": fingerprint(samples),
    }
    try:
        return Predictions(
            torch.cat([output.logits for output in outputs]).cpu().numpy(),  # (N, K)
            torch.cat([output.targets for output in outputs]).cpu().numpy(),  # (N,) or (N, K)
            tuple(samples.name(index) for index in indices),
            loaded.classes,
            about,
            loaded.task.thresholds,
        )
    except DataError as error:
        log.warning("there is nothing to report on: %s", error)
        return None


def keep(predictions: Predictions, folder: Path) -> None:
    """Write predictions to a run's folder; a folder that cannot be written is no error here."""
    try:
        predictions.save(RunFolder(folder).predictions)
    except StorageError as error:
        log.warning("the predictions are not kept: %s", error)
