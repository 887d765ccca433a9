"""`vtrain eval`: the metrics of a checkpoint, from nothing but the checkpoint and the images."""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtrain import distributed
from vtrain.config import evaluation_config
from vtrain.data.datasets.samples import Samples, SplitName, subset
from vtrain.data.datasets.stratified import stratified_sample
from vtrain.data.labels import strata
from vtrain.data.loading.batches import Batch
from vtrain.data.loading.loader import EvalLoader
from vtrain.data.progress import said_if_long
from vtrain.device import autocast, choose_device, choose_precision
from vtrain.distributed import Rank
from vtrain.engine.state import Metrics
from vtrain.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    StorageError,
    printable,
    shortened,
)
from vtrain.files import manifest
from vtrain.files.checkpoint import Checkpoint, refuse_other_ending
from vtrain.files.runs import RunFolder
from vtrain.inference.averaging import average_state_dicts
from vtrain.inference.evaluate import evaluate
from vtrain.inference.loaded import LoadedModel, load_model, model_of
from vtrain.inference.onnx_loaded import load_onnx_model
from vtrain.inference.onnx_model import is_onnx
from vtrain.inference.outputs import NO_TARGET, Outputs, outputs_of
from vtrain.inference.views import Views, asked_about
from vtrain.registry import bind
from vtrain.report.label_scores import per_label
from vtrain.report.predictions import Predictions
from vtrain.run.advice import for_moved_data
from vtrain.run.evaluated import Evaluated, choose_images
from vtrain.run.find_images import is_model
from vtrain.run.predict import newest_checkpoint
from vtrain.run.predictions import keep, predictions_of
from vtrain.run.renumbering import names_in_data, refuse_other_labels, renumbered
from vtrain.run.text.command import argument

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Metrics over all images, and what the model says of each; None if that is not finite."""

    metrics: Metrics
    predictions: Predictions | None
    validates: bool
    """Whether the images are those that the run itself was validated on."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows: the metrics, and the figures of each class."""
        if self.predictions is None:
            return dict(self.metrics)
        return {**self.metrics, "per_class": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures of each class, the worst first."""
        from vtrain.report.metrics import per_class  # scipy takes a while, and only JSON needs it
        from vtrain.report.plain import class_rows
        from vtrain.report.ranking import rankings

        found = self.predictions
        assert found is not None, "of a model that has diverged there are none"
        if found.has_several:
            return class_rows(found.classes, per_label(found.label_scores()))
        scores = found.scores()
        return class_rows(found.classes, per_class(scores, rankings(scores)))


def evaluate_checkpoint(
    ckpt: Path | None,
    overrides: Iterable[str],
    split: SplitName | None,
    average: int | None = None,
    output: Path | None = None,
) -> Evaluation:
    """Evaluate a checkpoint with the preprocessing, precision and batch size of its run.

    Without a `ckpt` it is the newest finished run. Overrides of `data` choose other images, of
    which all are evaluated, whatever part the run held out. `average` evaluates the mean of the
    weights of so many of the run's newest checkpoints, which is saved as a checkpoint at `output`,
    if that is given.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        DataError: The images cannot be used, or have classes that the model does not know.
        StorageError: There is already something at `output`.
    """
    if output is not None and average is None:
        raise ConfigError("--output saves averaged weights", "command line", "add --average N")
    # Before the evaluation, which may take an hour.
    if output is not None:
        refuse_other_ending(output)
    if output is not None and output.exists():
        raise StorageError("this file is there already", output, "choose another name")
    overrides = list(overrides)
    _refuse_words(overrides)
    ckpt = newest_checkpoint().parent if ckpt is None else ckpt
    loaded = _load(ckpt, average)
    evaluation = evaluate_model(loaded, overrides, split)
    if output is not None:
        replace(loaded.checkpoint, metrics=evaluation.metrics).save(output)
    # Of a run, that is: neither a lone checkpoint nor averaged weights are what a report is about.
    if average is None and RunFolder(ckpt).is_started and evaluation.predictions is not None:
        _keep(evaluation, RunFolder(ckpt))
    return evaluation


def _refuse_words(overrides: Iterable[str]) -> None:
    """Refuse what is no override, and say how a run or other images are named.

    Raises:
        ConfigError: There is such a word.
    """
    for word in overrides:
        if "=" in word:
            continue
        path = Path(word)
        hint = "write KEY=VALUE, for example data.root=photos"
        if is_model(path):
            hint = f"did you mean --ckpt {argument(path)}?"
        elif path.is_dir():
            hint = f"did you mean data.root={argument(path)}?"
        raise ConfigError("not an override", f"command line '{shortened(word)}'", hint)


def _load(ckpt: Path, average: int | None) -> LoadedModel:
    if is_onnx(ckpt):
        if average is not None:
            what = "--average is for the checkpoints of a run, not for an ONNX file"
            raise ConfigError(what, "command line", "name the run's folder with --ckpt")
        return load_onnx_model(ckpt)
    if average is None:
        return load_model(ckpt)
    with said_if_long(f"reading {average} checkpoints"):
        return model_of(averaged(ckpt, average), ckpt)


def _keep(evaluation: Evaluation, run: RunFolder) -> None:
    """Keep the predictions of the run's own validation images, which a report is about."""
    assert evaluation.predictions is not None, "of a model that has diverged there are none"
    if evaluation.validates:
        keep(evaluation.predictions, run.path)
    elif run.predictions.exists():
        what = "note    %s is left as it is: of the run's own validation images"
        log.info(what, printable(str(run.predictions)))


def averaged(run_dir: Path, count: int) -> Checkpoint:
    """Return the newest checkpoint of a run with the mean weights of the `count` newest.

    It can be used like any other, but no training can go on from it.

    Raises:
        CheckpointError: The run has fewer, or one of them cannot be used.
    """
    names = [entry.name for entry in manifest.read(run_dir).entries][-count:]
    if len(names) < count:
        raise CheckpointError(
            f"there are {len(names)} checkpoints to average, not {count}",
            run_dir,
            f"give a run folder; a run with checkpoint.keep={count} keeps enough",
        )
    log.info("the mean of %s", ", ".join(names))
    newest = Checkpoint.load(run_dir / names[-1])
    # Read as they are added up: of many checkpoints only one is in memory beside the newest.
    older = (Checkpoint.load(run_dir / name).weights for name in names[:-1])
    return newest.with_weights(average_state_dicts(chain(older, [newest.weights])))


@dataclass(frozen=True)
class Subject:
    """A model on the device and in the precision of its run, beside what it is evaluated on."""

    loaded: LoadedModel
    images: Evaluated
    samples: Samples
    """The images with the classes numbered as the model's are."""
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]]
    loader_of: Callable[[Samples], EvalLoader]

    @cached_property
    def loader(self) -> EvalLoader:
        """The batches of all samples."""
        return self.loader_of(self.samples)

    def sampled(self, count: int) -> Samples:
        """Return the samples, or `count` of them with the classes in proportion."""
        if len(self.samples) <= count:
            return self.samples
        return subset(self.samples, stratified_sample(strata(self.samples.targets), count))

    def predict(self, images: Tensor) -> Tensor:
        """Return logits. Shape: (B, C, S, S) uint8 -> (B, K) float32."""
        nothing = torch.full((len(images),), NO_TARGET)  # who asks has the targets
        batch = Batch(images, nothing, nothing, 0, len(images))
        normalise = self.loaded.geometry.normalise
        (output,) = outputs_of(self.loaded.model, [batch], normalise, self.autocast)
        return output.logits


def prepare(
    loaded: LoadedModel,
    overrides: Iterable[str],
    split: SplitName | None = None,
    *,
    any_class: bool = False,
) -> Subject:
    """Bring a model to its device, and find the images of its own config or of a changed one.

    With `any_class` the classes are the images' own, with their numbers: no head is asked.
    """
    # The run's own device and precision, unless an override names others.
    chosen = evaluation_config(
        loaded.checkpoint, loaded.path, overrides, portable=is_onnx(loaded.path)
    )
    config = chosen.changed
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    try:
        images = choose_images(loaded, chosen, split)
    except DataError as error:
        error.hint = for_moved_data(error, config)
        raise
    targets = images.samples.targets
    if not any_class:
        refuse_other_labels(loaded, targets)
        # Another dataset may number the same classes in another way, or lack some of them.
        known = names_in_data(loaded, images.source.classes)
        targets = renumbered(targets, images.source.classes, known)
    batch_size = config.train.eval_batch_size or config.train.batch_size
    assert batch_size != "auto", "a run saves the number"
    loaded.model.to(device)

    def loader_of(samples: Samples) -> EvalLoader:
        # One process evaluates all of it, also under torchrun's environment variables.
        return bind(EvalLoader, config.data)(samples, loaded.geometry, batch_size, Rank(), device)

    samples = images.samples.with_targets(targets)
    return Subject(loaded, images, samples, device, partial(autocast, device, precision), loader_of)


def evaluate_model(
    loaded: LoadedModel,
    overrides: Iterable[str],
    split: SplitName | None = None,
    views: Views | None = None,
) -> Evaluation:
    """Evaluate a loaded model on the images of its own config, or of a changed one.

    With `views` it is asked about several views of each image.
    """
    asked = asked_about(loaded.model, loaded.geometry, views, loaded.task)
    subject = prepare(replace(loaded, geometry=asked.geometry), overrides, split)
    outputs: list[Outputs] = []  # they stay on the device: nothing waits between batches
    metrics = evaluate(
        asked.model,
        subject.loader.batches(),
        loaded.geometry.normalise,
        subject.autocast,
        distributed.all_sum,
        outputs.append,
        loaded.task.tally(len(subject.samples), subject.device),
    )
    images = subject.images
    predictions = predictions_of(outputs, subject.samples, loaded, images.split)
    return Evaluation(metrics, predictions, images.validates)
