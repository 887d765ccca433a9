"""`vtrain predict`: name the classes of files, folders and globs."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from vtrain.data.progress import Progress, said_if_long
from vtrain.data.unused import Unused
from vtrain.errors import CheckpointError, ConfigError, DataError, StorageError
from vtrain.files.runs import RUNS, RunFolder
from vtrain.inference.files import Prediction
from vtrain.inference.onnx_model import OnnxModel, is_onnx, load_onnx
from vtrain.run.find_images import find_images
from vtrain.run.ranked import ranked_by_models, ranked_by_onnx
from vtrain.run.text.command import argument, resume_command
from vtrain.run.thresholds import limits_of, named, refuse_without_meaning

if TYPE_CHECKING:  # torch takes seconds, and an ONNX file needs none of it
    from vtrain.inference.loaded import LoadedModel
    from vtrain.inference.views import Views

log = logging.getLogger(__name__)
T = TypeVar("T")
TOP_K = 5
"""Classes that are named unless another number is asked for."""


def predict_images(
    patterns: list[str],
    ckpts: Sequence[Path] = (),
    top_k: int | None = None,
    reject: float | None = None,
    conformal: float | None = None,
    views: "Views | None" = None,
    threshold: float | None = None,
) -> Iterator[Prediction]:
    """Predict every image that the patterns name, in their order; each as soon as it is known.

    Patterns are files, folders (searched recursively for images) and globs. Without a checkpoint it
    is the newest finished run's best; `top_k` above the number of classes names all of them. A
    model of several labels an image names those that reach their thresholds.

    Args:
        patterns: See above, also for the next two.
        ckpts: Checkpoints, run folders, or one ONNX file; of several the mean of probabilities.
        top_k: How many classes to name; None means `TOP_K`, or of several labels as many as there
            are.
        reject: The probability of the likeliest class below which an image is unsure.
        conformal: Name the classes that hold the true one but for this share of images; an image is
            unsure unless that is one class.
        views: Of each image, whose probabilities are averaged.
        threshold: The probability from which on an image has a class, in place of each class's own.

    Raises:
        DataError: A pattern names nothing. An unreadable image is no exception but a result.
        CheckpointError: There is no usable checkpoint, or they do not have the same classes.
        ConfigError: An ONNX file is asked for what it cannot do, or a model of one class an image
            for what is of several labels, or the other way round.
    """
    paths = find_images(patterns)
    model, members = _load_all(ckpts, views, for_many=len(paths) > 1)
    count = len(model.classes)
    if top_k is not None and top_k > count:
        log.info("--top-k %d: the model has %d classes", top_k, count)
    limits = limits_of(model, members, threshold)
    refuse_without_meaning(limits, reject=reject, conformal=conformal, threshold=threshold)
    least = None if conformal is None else _conformal_threshold(model, conformal)
    errors: dict[int, str] = {}
    wanted = count if least is not None or limits else min(top_k or TOP_K, count)

    def on_error(number: int, error: DataError) -> None:
        errors[number] = error.what

    unused = Unused()
    if isinstance(model, OnnxModel):
        ranked = ranked_by_onnx(model, paths, wanted, on_error, unused)
    else:
        ranked = ranked_by_models(members, paths, wanted, on_error, views, unused)
    answers = unused.said_after(in_order(paths, ranked, errors))
    predictions = (Prediction(str(path), found or [], error) for path, found, error in answers)
    if limits:
        return (named(prediction, limits, top_k) for prediction in predictions)
    return (_judged(prediction, reject, least) for prediction in predictions)


def in_order(
    paths: list[Path], found: Iterable[tuple[int, T]], errors: Mapping[int, str]
) -> Iterator[tuple[Path, T | None, str | None]]:
    """Yield each path with what was found, or with why it could not be read, in its place.

    Args:
        paths: What was asked about.
        found: The number of each path that could be read, and what was found of it.
        errors: Why others could not be; it fills while `found` is asked.
    """
    # On a terminal the results are seen as they come, and a bar would be written into them.
    shown: AbstractContextManager[Progress | None] = nullcontext()
    if not sys.stdout.isatty():
        shown = Progress("predicting", "images", len(paths))
    with shown as progress:
        due = 0
        # A number beyond the end stands last, for what is unreadable behind the last image. Errors
        # are known in time: a batch is yielded after all that goes wrong in it.
        end: list[tuple[int, T | None]] = [(len(paths), None)]
        for number, one in chain(found, end):
            for unread in range(due, number):
                yield paths[unread], None, errors[unread]
            if number < len(paths):
                yield paths[number], one, None
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


def _refuse_onnx(ckpts: Sequence[Path], views: "Views | None") -> None:
    """Refuse to ask an ONNX file beside other models, or about several views of an image."""
    for ckpt in ckpts:
        if is_onnx(ckpt) and (views is not None or len(ckpts) > 1):
            what = "an ONNX file is asked alone, and about each image as it is"
            raise ConfigError(what, ckpt, "name its run, or leave out --tta and other --ckpt")


def _load_all(
    ckpts: Sequence[Path], views: "Views | None", *, for_many: bool
) -> tuple["OnnxModel | LoadedModel", list["LoadedModel"]]:
    """Return the model that names the classes, and all whose answers are averaged.

    An exported file answers alone, and is not among them.
    """
    ckpts = list(ckpts) or [newest_checkpoint()]
    _refuse_onnx(ckpts, views)
    if is_onnx(ckpts[0]):
        return load_onnx(ckpts[0], for_many=for_many), []
    from vtrain.run.members import refuse_other_classes, refuse_twice

    refuse_twice(ckpts)
    members = [load(ckpt) for ckpt in ckpts]
    for other in members[1:]:
        refuse_other_classes(other, members[0])
    return members[0], members


def load(ckpt: Path) -> "LoadedModel":
    """Load a checkpoint onto the device of this machine."""
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


class Answer(Protocol):
    """What is said of an image, or why nothing is."""

    @property
    def image(self) -> str: ...

    @property
    def error(self) -> str | None: ...


A = TypeVar("A", bound=Answer)


class Tally:
    """Counts answers that pass by, and keeps the first that failed."""

    def __init__(self) -> None:
        self.count = self.failed = 0
        self.first: Answer | None = None

    def counting(self, answers: Iterable[A]) -> Iterator[A]:
        for answer in answers:
            self.count += 1
            if answer.error is not None:
                self.failed += 1
                self.first = self.first or answer
            yield answer

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
