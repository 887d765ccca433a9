"""`vtrain predict`: name the classes of files, folders and globs."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vtrain.config import stored_config
from vtrain.device import autocast, choose_device, choose_precision
from vtrain.errors import CheckpointError, DataError, StorageError
from vtrain.files.runs import RUNS, RunFolder
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.outputs import Prediction, batches_of_files, outputs_of
from vtrain.run.find_images import find_images

log = logging.getLogger(__name__)
TOP_K = 5
"""Classes that are named unless another number is asked for."""


def predict_images(
    patterns: list[str],
    ckpt: Path | None,
    top_k: int | None = None,
    reject: float | None = None,
    conformal: float | None = None,
) -> Iterator[Prediction]:
    """Predict every image that the patterns name, in their order; each as soon as it is known.

    Patterns are files, folders (searched recursively for images) and globs. Without a `ckpt` it is
    the newest finished run's best; `top_k` above the number of classes names all of them.

    Args:
        patterns: See above, also for the next two.
        ckpt: A checkpoint or a run folder.
        top_k: How many classes to name; None means `TOP_K`.
        reject: The probability of the likeliest class below which an image is unsure.
        conformal: Name the classes that hold the true one but for this share of images; an image is
            unsure unless that is one class.

    Raises:
        DataError: A pattern names nothing. An unreadable image is no exception but a result.
        CheckpointError: There is no usable checkpoint.
    """
    paths = find_images(patterns)
    # Not the device of the run's config, which may be the second GPU of another machine: unlike
    # `eval`, this command takes no KEY=VALUE to say otherwise.
    loaded = load_model(ckpt or newest_checkpoint(), choose_device("auto"))
    count = len(loaded.classes)
    if top_k is not None and top_k > count:
        log.info("--top-k %d: the model has %d classes", top_k, count)
    least = None if conformal is None else _conformal_threshold(loaded, conformal)
    errors: dict[int, str] = {}
    named = count if least is not None else min(top_k or TOP_K, count)
    predictions = _in_order(paths, _ranked(loaded, paths, named, errors), errors)
    return (_judged(prediction, reject, least) for prediction in predictions)


def _in_order(
    paths: list[Path],
    ranked: Iterable[tuple[int, list[tuple[str, float]]]],
    errors: Mapping[int, str],
) -> Iterator[Prediction]:
    """Yield a prediction of each path, those that could not be read in their places."""
    # Nothing is to be seen for long where the results go to a file: then a bar, on a terminal.
    hide = True if sys.stdout.isatty() else None
    with tqdm(total=len(paths), unit=" images", delay=2, disable=hide) as bar:
        due = 0
        for number, classes in chain(ranked, [(len(paths), [])]):
            for unread in range(due, number):
                yield Prediction(str(paths[unread]), [], errors[unread])
            if number < len(paths):
                yield Prediction(str(paths[number]), classes)
            bar.update(min(number + 1, len(paths)) - due)
            due = number + 1


def _judged(prediction: Prediction, reject: float | None, least: float | None) -> Prediction:
    """Say whether an image is unsure: too improbable a class, or not one class alone."""
    classes = prediction.classes
    if prediction.error is not None:
        return prediction
    if least is not None:
        chosen = [(name, p) for name, p in classes if p >= least]
        return replace(prediction, classes=chosen, unsure=len(chosen) != 1)
    return prediction if reject is None else replace(prediction, unsure=classes[0][1] < reject)


def _conformal_threshold(loaded: LoadedModel, alpha: float) -> float:
    """Return the probability from which on a class is named, from the predictions of the run."""
    from vtrain.report.reject import conformal_threshold  # scipy takes a while
    from vtrain.run.calibrate import predictions_beside

    predictions = predictions_beside(loaded)
    if predictions.is_in_sample:
        what = "--conformal needs predictions of images that the model was not trained on"
        raise DataError(what, loaded.path.parent, "write them with `vtrain eval --ckpt RUN`")
    scores = predictions.scores()
    return conformal_threshold(np.exp(-scores.loss), alpha)


def refuse_existing(output: Path) -> None:
    """Refuse to write over a file, before any time is spent on what would be written.

    Raises:
        StorageError: There is already something at `output`.
    """
    if output.exists():
        raise StorageError("this file is there already", output, "choose another name or --force")


class Tally:
    """Counts predictions that pass by, and keeps the first that failed."""

    def __init__(self) -> None:
        self.count = self.failed = 0
        self.first: Prediction | None = None

    def counting(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            self.count += 1
            if prediction.error is not None:
                self.failed += 1
                self.first = self.first or prediction
            yield prediction

    def raise_failures(self) -> None:
        """Raise one error if any image could not be read.

        Raises:
            DataError: It counts them and names the first.
        """
        if self.first is not None:
            what = f"{self.failed} of {self.count} images could not be read; first: "
            raise DataError(f"{what}{self.first.error}", self.first.image)


def newest_checkpoint() -> Path:
    """Return the best checkpoint of the newest finished run under `runs/`, and say which.

    Raises:
        CheckpointError: No run has finished.
    """
    run = RunFolder.newest(finished=True)
    if run is None:
        raise CheckpointError("no finished run", RUNS, "name a checkpoint with --ckpt")
    log.info("using %s", run.checkpoint)
    return run.checkpoint


def _ranked(
    loaded: LoadedModel, paths: list[Path], top_k: int, errors: dict[int, str]
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Yield the number of each readable path and its likeliest classes; note what is unreadable."""
    # Of the stored config only the precision counts: the logits shall be those of `eval`.
    config = stored_config(loaded.checkpoint, loaded.path)
    precision = choose_precision(config.train.precision, loaded.device)
    batches = batches_of_files(
        paths,
        loaded.geometry,
        loaded.device,
        lambda number, error: errors.update({number: error.what}),
    )
    for output in outputs_of(
        loaded.model,
        batches,
        loaded.geometry.normalise,
        partial(autocast, loaded.device, precision),
    ):
        # Read back once a batch; a GPU computes the next one only then, but decoding goes on.
        probabilities, classes = output.logits.softmax(1).topk(top_k)  # (B, k) each
        for number, row, ids in zip(
            output.indices.tolist(), probabilities.tolist(), classes.tolist(), strict=True
        ):
            yield number, [(loaded.classes[k], p) for k, p in zip(ids, row, strict=True)]
