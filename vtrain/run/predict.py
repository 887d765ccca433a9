"""`vtrain predict`: name the classes of files, folders and globs."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtrain.data.progress import Progress, said_if_long
from vtrain.errors import CheckpointError, ConfigError, DataError, StorageError
from vtrain.files.runs import RUNS, RunFolder
from vtrain.inference.files import OnError, Prediction, decoded
from vtrain.inference.onnx_model import OnnxModel, is_onnx, load_onnx
from vtrain.run.find_images import find_images
from vtrain.run.text.command import argument, resume_command

if TYPE_CHECKING:  # torch takes seconds, and an ONNX file needs none of it
    from vtrain.inference.loaded import LoadedModel

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
        ckpt: A checkpoint, a run folder, or an ONNX file.
        top_k: How many classes to name; None means `TOP_K`.
        reject: The probability of the likeliest class below which an image is unsure.
        conformal: Name the classes that hold the true one but for this share of images; an image is
            unsure unless that is one class.

    Raises:
        DataError: A pattern names nothing. An unreadable image is no exception but a result.
        CheckpointError: There is no usable checkpoint.
    """
    paths = find_images(patterns)
    ckpt = ckpt or newest_checkpoint()
    model = load_onnx(ckpt, for_many=len(paths) > 1) if is_onnx(ckpt) else _load(ckpt)
    count = len(model.classes)
    if top_k is not None and top_k > count:
        log.info("--top-k %d: the model has %d classes", top_k, count)
    least = None if conformal is None else _conformal_threshold(model, conformal)
    errors: dict[int, str] = {}
    wanted = count if least is not None else min(top_k or TOP_K, count)

    def on_error(number: int, error: DataError) -> None:
        errors[number] = error.what

    if isinstance(model, OnnxModel):
        ranked = _ranked_by_onnx(model, paths, wanted, on_error)
    else:
        ranked = _ranked(model, paths, wanted, on_error)
    predictions = _in_order(paths, ranked, errors)
    return (_judged(prediction, reject, least) for prediction in predictions)


def _in_order(
    paths: list[Path],
    ranked: Iterable[tuple[int, list[tuple[str, float]]]],
    errors: Mapping[int, str],
) -> Iterator[Prediction]:
    """Yield a prediction of each path, those that could not be read in their places."""
    # On a terminal the results are seen as they come, and a bar would be written into them.
    shown: AbstractContextManager[Progress | None] = nullcontext()
    if not sys.stdout.isatty():
        shown = Progress("predicting", "images", len(paths))
    with shown as progress:
        due = 0
        # A number beyond the end stands last, for what is unreadable behind the last image. Errors
        # are known in time: a batch is yielded after all that goes wrong in it.
        for number, classes in chain(ranked, [(len(paths), [])]):
            for unread in range(due, number):
                yield Prediction(str(paths[unread]), [], errors[unread])
            if number < len(paths):
                yield Prediction(str(paths[number]), classes)
            if progress is not None:
                progress.add(min(number + 1, len(paths)) - due)
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


def _load(ckpt: Path) -> "LoadedModel":
    from vtrain.device import choose_device
    from vtrain.inference.loaded import load_model

    # Not the device of the run's config, which may be the second GPU of another machine: unlike
    # `eval`, this command takes no KEY=VALUE to say otherwise.
    return load_model(ckpt, choose_device("auto"))


def _conformal_threshold(loaded: "LoadedModel | OnnxModel", alpha: float) -> float:
    """Return the probability from which on a class is named, from the predictions of the run."""
    if isinstance(loaded, OnnxModel):
        what = "--conformal needs the predictions of a run, which an ONNX file does not have"
        raise ConfigError(what, "command line", "name the run's folder with --ckpt")
    from vtrain.report.reject import conformal_threshold  # scipy takes a while
    from vtrain.run.calibrate import predictions_beside

    predictions = predictions_beside(loaded)
    if predictions.is_in_sample:
        what = "--conformal needs predictions of images that the model was not trained on"
        run = loaded.path.parent
        raise DataError(what, run, f"write them with `vtrain eval --ckpt {argument(run)}`")
    scores = predictions.scores()
    return conformal_threshold(np.exp(-scores.loss), alpha)


def refuse_existing(output: Path) -> None:
    """Refuse to write over a file, before any time is spent on what would be written.

    Raises:
        StorageError: There is already something at `output`.
    """
    if output.exists():
        kind = "folder" if output.is_dir() else "file"
        raise StorageError(
            f"this {kind} is there already", output, "choose another name or --force"
        )


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
    with said_if_long(f"looking for the newest finished run in {RUNS}"):
        run = RunFolder.newest(finished=True)
    if run is None:
        stopped = RunFolder.newest(finished=False)
        hint = "name a checkpoint with --ckpt, or train first: vtrain fit FOLDER"
        if stopped is not None:
            hint = f"{stopped.path} is not: it goes on with {resume_command(stopped.path)}"
        raise CheckpointError("no finished run", RUNS, hint)
    log.info("using %s", run.checkpoint)
    return run.checkpoint


def _ranked(
    loaded: "LoadedModel", paths: list[Path], top_k: int, on_error: OnError
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Yield the number of each readable path and its likeliest classes."""
    from vtrain.config import stored_config
    from vtrain.device import autocast, choose_precision
    from vtrain.inference.outputs import batches_of_files, outputs_of

    # Of the stored config only the precision counts: the logits shall be those of `eval`.
    config = stored_config(loaded.checkpoint, loaded.path)
    precision = choose_precision(config.train.precision, loaded.device)
    batches = batches_of_files(paths, loaded.geometry, loaded.device, on_error)
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


def _ranked_by_onnx(
    model: OnnxModel, paths: list[Path], top_k: int, on_error: OnError
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Do the same by an exported file, without torch."""
    for numbers, images in decoded(paths, model.prepare, on_error):
        probabilities = model.probabilities(np.stack(images))  # (B, K)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for number, row, ids in zip(numbers, probabilities, order, strict=True):
            yield number, [(model.classes[k], float(row[k])) for k in ids]
