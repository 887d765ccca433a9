"""`vtrain eval --knn`, `--linear-probe`: how good features are, without training the model."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtrain.data.datasets.samples import SplitName
from vtrain.data.labels import refuse_several
from vtrain.errors import ConfigError, DataError, counted
from vtrain.files.checkpoint import Checkpoint
from vtrain.inference.evaluate import top_k_hits
from vtrain.inference.features import Read, features_of, gathered
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.logistic import FINAL, Probe, fit_probe
from vtrain.inference.neighbours import NEIGHBOURS, TEMPERATURE, nearest, vote
from vtrain.run.build.data import build_preprocess, build_source
from vtrain.run.build.model import build_model, describe_model, load_start
from vtrain.run.evaluate import Subject, prepare
from vtrain.run.evaluated import data_place
from vtrain.run.members import refuse_exported
from vtrain.run.predict import newest_checkpoint
from vtrain.run.request import find_request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What is asked of features."""

    knn: bool = False
    k: int = NEIGHBOURS
    temperature: float = TEMPERATURE
    linear_probe: bool = False

    def __post_init__(self) -> None:
        if not (self.knn or self.linear_probe):
            what = "no classifier of the features is asked for"
            raise ConfigError(what, "knn, linear_probe", "ask for one of them, or for both")


def evaluate_frozen(
    ckpt: Path | None,
    config: Path | None,
    overrides: Iterable[str],
    split: SplitName | None,
    order: Order,
) -> dict[str, Any]:
    """Classify images by features of training images, and return the figures by name.

    The model is that of a checkpoint, of the newest finished run, or one that is built as `config`
    says, of which the pretrained weights are judged. The training images are those of the dataset
    that is evaluated, seen as in evaluation; their classes need not be the model's.

    Raises:
        CheckpointError: The model cannot be used.
        ConfigError: It has random weights, or there are fewer training images than neighbours.
        DataError: There are no training images beside those that are evaluated.
    """
    if config is not None:
        loaded, overrides = pretrained_model(config, list(overrides)), ()
    else:
        path = ckpt or newest_checkpoint().parent
        refuse_exported(path, "logits and no features")
        loaded = load_model(path)
    subject = prepare(loaded, overrides, split, any_class=True)
    refuse_several(subject.samples.targets, "--knn or --linear-probe")
    train = training_features(subject)
    count = len(subject.images.source.classes)
    log.info("features %s of %d values", counted(len(train.targets), "training image"),
             train.features.shape[1])  # fmt: skip
    if order.knn and order.k > (known := len(train.targets)):
        what = f"there are {known} training images, and {order.k} neighbours are asked for"
        raise ConfigError(what, "--k", f"take {known} at most")
    probe = None
    if order.linear_probe:
        probe = fit_probe(train.features, train.targets, count, subject.device)
        _say_probe(probe)
    hits: dict[str, Tensor] = {}
    total = 0
    for read in features_of(loaded, subject.loader.batches(), subject.autocast):
        total += len(read.targets)
        for name, scores in _scores(read, train, count, order, probe, subject.device):
            found = top_k_hits(scores, read.targets.to(scores.device), 5).sum(0)  # (up to 5,)
            hits[name] = hits.get(name, torch.zeros_like(found)) + found
    if not total:
        raise DataError("there is no image that can be read", data_place(subject.images.config))
    return _figures(hits, total, count, probe)


def _scores(
    read: Read,
    train: Read,
    num_classes: int,
    order: Order,
    probe: Probe | None,
    device: torch.device,
) -> Iterable[tuple[str, Tensor]]:
    """Yield what each classifier says of a batch. Shape: (B, C)."""
    features = read.features.to(device)
    if order.knn:
        cosines, places = nearest(features, train.features, order.k)
        labels = train.targets.to(device)[places]
        yield "knn", vote(cosines, labels, num_classes, order.temperature)
    if probe is not None:
        yield "probe", probe.classifier.logits(features)


def _figures(
    hits: dict[str, Tensor], images: int, num_classes: int, probe: Probe | None
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, found in hits.items():
        figures[f"{name}/top1"] = int(found[0]) / images
        if num_classes > 5:  # of five the true one is in any five
            figures[f"{name}/top5"] = int(found.sum()) / images
    if probe is not None:
        figures["probe/l2"] = probe.classifier.l2
    return figures


def _say_probe(probe: Probe) -> None:
    chosen = probe.classifier
    what = (
        "linear probe: l2 %g is the best of %d on a fifth of the training images, with top-1 %.4f"
    )
    log.info(what, chosen.l2, len(probe.held_out), probe.held_out[chosen.l2])
    if probe.is_at_limit:
        log.warning("it is the last of those that were tried: the best may lie beyond it")
    if not chosen.is_done:
        log.warning("the linear probe has not come to rest in %d steps", FINAL.steps)


def training_features(subject: Subject) -> Read:
    """Return the features of the training images of the dataset that is evaluated.

    Raises:
        DataError: There are none, or they are what is evaluated.
    """
    images = subject.images
    where = data_place(images.config)
    if images.split == "train":
        what = "the training images are what is evaluated, and no image may vote for itself"
        hint = "name another split, or hold some out with data.val_fraction=0.2"
        raise DataError(what, where, hint)
    if "train" not in images.source.splits:
        hint = "name a dataset with training images: data.root=FOLDER"
        raise DataError("there are no training images to compare with", where, hint)
    samples = images.source.split("train")
    batches = subject.loader_of(samples).batches("computing features")
    reads = features_of(subject.loaded, batches, subject.autocast)
    return gathered(reads, len(samples))


def pretrained_model(path: Path, overrides: list[str]) -> LoadedModel:
    """Build the model of a config with the weights that its training would start from.

    Raises:
        ConfigError: The config is not valid, or its weights are random.
        CheckpointError: The weights cannot be used.
    """
    request = find_request(path, overrides)
    config = request.config
    if config.model.pretrained is None:
        what = "the weights would be random, and their features say nothing"
        raise ConfigError(what, path, "set model.pretrained, or name a run with --ckpt")
    if config.train.batch_size == "auto":  # what fits in memory is found out by training alone
        train = config.train.model_copy(update={"batch_size": 64})
        config = config.model_copy(update={"train": train})
    source = build_source(config, listed=request.listed)
    model = build_model(config, len(source.classes))
    start = load_start(config, model, source)
    log.info("weights %s", start.weights)
    log.info("colours %s", start.colours)
    config = start.config
    preprocess = build_preprocess(config, source)
    checkpoint = Checkpoint(
        model=describe_model(config, model),
        classes=source.classes,
        preprocess=preprocess.to_dict(),
        dataset={},
        config=config.to_yaml(),
        metrics={},
        state={"model": model.state_dict(), "ema": None},
    )
    return LoadedModel(model.eval(), source.classes, preprocess, checkpoint, path)
