"""All the parts of a training run, built in the order in which one needs another."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from PIL import Image
from torch import nn

from vtrain import distributed
from vtrain.config import Config
from vtrain.data.datasets.samples import Samples, Source
from vtrain.data.input import Input
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.preprocess import Preprocess
from vtrain.device import autocast, choose_precision, naming_failures
from vtrain.distributed import Rank, parallel
from vtrain.engine.budget import TimeBudget
from vtrain.engine.ema import EMA
from vtrain.engine.state import Metrics, TrainState
from vtrain.inference.evaluate import evaluate
from vtrain.inference.outputs import padded_to
from vtrain.models.base import ImageClassifier
from vtrain.models.weights.pretrained import load_pretrained
from vtrain.optim.gradients import LossScaler
from vtrain.run.build.data import (
    build_augment,
    build_mixing,
    build_preprocess,
    build_source,
    build_train_loader,
    build_val_loader,
)
from vtrain.run.build.model import build_model, build_teacher
from vtrain.run.build.optim import (
    build_criterion,
    build_early_stopping,
    build_optimizer,
    build_schedule,
)
from vtrain.run.build.plan import count_steps
from vtrain.run.text.pictures import augmented

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a training run is made of; `state` is the only part that changes."""

    device: torch.device
    precision: str
    source: Source
    train: Samples
    val: Samples
    preprocess: Preprocess
    input: Input
    model: ImageClassifier
    train_loader: TrainLoader
    val_loader: EvalLoader
    criterion: nn.Module
    teacher: nn.Module | None
    schedule: Callable[[int], float]
    steps_per_epoch: int
    total_steps: int
    state: TrainState

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return autocast(self.device, self.precision)

    def evaluate(self) -> Metrics:
        """Evaluate the average of the weights where there is one, else the weights."""
        ema, size, count = self.state.ema, self.preprocess.image_size, self.val_loader.batch_size
        most = int(distributed.all_max(torch.tensor(len(self.val_loader))))
        image = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=self.device)
        with (
            naming_failures(f"train.eval_batch_size {count}", "take a smaller one"),
            ema.swapped_into(self.model) if ema is not None else nullcontext(),
        ):
            return evaluate(
                self.model,
                padded_to(most, self.val_loader.batches(), image),
                self.preprocess.normalise,
                self.autocast,
                distributed.all_sum,
            )

    def picture(self, count: int) -> Image.Image:
        """Draw `count` training images as the first step augments and mixes them."""
        return augmented(
            self.train_loader,
            self.input,
            self.preprocess,
            self.source.classes,
            count,
        )


def build_parts(
    config: Config, device: torch.device, place: Rank, source: Source | None = None
) -> Parts:
    """Build everything that a config describes, in the order in which one part needs another.

    Args:
        config: Complete and valid.
        device: Where the model is and computes.
        place: This process among all.
        source: Stands in for the dataset that the config names.
    """
    precision = choose_precision(config.train.precision, device)
    torch.use_deterministic_algorithms(config.train.deterministic)
    source = build_source(config) if source is None else source
    preprocess = build_preprocess(config, source)
    train, val = source.split("train"), source.split("val")
    augment = build_augment(config, preprocess, train)
    model = build_model(config, len(source.classes))
    if config.model.pretrained is not None:
        log.info("weights %s", load_pretrained(model, config.model.pretrained, source.classes))
    if config.train.parallel == "fsdp":
        parallel.shard(model, device)  # block by block: the whole may not fit on the device
    model.to(device)
    steps_per_epoch, total_steps = count_steps(config, len(train))
    class_counts = train.targets.bincount(minlength=len(source.classes)).tolist()
    ema_decay, max_minutes = config.train.ema_decay, config.train.max_minutes
    return Parts(
        device=device,
        precision=precision,
        source=source,
        train=train,
        val=val,
        preprocess=preprocess,
        input=Input(augment, build_mixing(config, len(source.classes))),
        model=model,
        train_loader=build_train_loader(config, train, augment.geometry(preprocess), device, place),
        val_loader=build_val_loader(config, val, preprocess, device, place),
        criterion=build_criterion(config, model, class_counts).to(device),
        teacher=build_teacher(config, source.classes, preprocess, device),
        schedule=build_schedule(config, steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        state=TrainState(
            model=model,
            optimizer=build_optimizer(config, model),
            ema=None if ema_decay is None else EMA(model, ema_decay),
            scaler=LossScaler(device) if precision == "fp16" else None,
            early_stopping=build_early_stopping(config),
            budget=None if max_minutes is None else TimeBudget(max_minutes),
        ),
    )
