"""All the parts of a training run, built in the order in which one needs another."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import nn

from vtrain import distributed
from vtrain.data.datasets.samples import Samples
from vtrain.data.input import Input
from vtrain.data.inspect.grid import augmented
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.preprocess import Preprocess
from vtrain.device import autocast, naming_failures
from vtrain.distributed import parallel
from vtrain.engine.budget import TimeBudget
from vtrain.engine.early_stopping import EarlyStopping
from vtrain.engine.ema import EMA
from vtrain.engine.state import Metrics, TrainState
from vtrain.inference.evaluate import evaluate
from vtrain.inference.outputs import padded_to
from vtrain.inference.tasks import Task
from vtrain.models.base import ImageClassifier
from vtrain.optim.gradients import LossScaler
from vtrain.registry import bind
from vtrain.run.build.data import build_input, build_preprocess, build_train_loader
from vtrain.run.build.model import build_model, build_teacher, choose_trained, load_start
from vtrain.run.build.optim import build_criterion, build_optimizer, build_schedule
from vtrain.run.build.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a training run is made of; `state` changes, and of the others the task alone."""

    plan: Plan
    val: Samples
    task: Task
    """How the model is judged; it keeps the thresholds that the last evaluation fitted."""
    preprocess: Preprocess
    input: Input
    model: ImageClassifier
    train_loader: TrainLoader
    val_loader: EvalLoader
    criterion: nn.Module
    teacher: nn.Module | None
    schedule: Callable[[int], float]
    state: TrainState

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return autocast(self.plan.device, self.plan.precision)

    def evaluate(self) -> Metrics:
        """Evaluate the average of the weights where there is one, else the weights."""
        ema, size, count = self.state.ema, self.preprocess.image_size, self.val_loader.batch_size
        most = int(distributed.all_max(torch.tensor(len(self.val_loader))))
        shape = (1, self.preprocess.channels, size, size)
        image = torch.zeros(shape, dtype=torch.uint8, device=self.plan.device)
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
                tally=self.task.tally(len(self.val), self.plan.device),
            )

    def picture(self, count: int) -> Image.Image:
        """Draw `count` training images as the first step augments and mixes them."""
        classes = self.plan.source.classes
        return augmented(self.train_loader, self.input, self.preprocess, classes, count)


def build_parts(plan: Plan, *, pretrained: bool = True) -> Parts:
    """Build everything that a plan's config describes, each part after those that it needs.

    Without `pretrained` the weights are those of a run that goes on: no file of others is read.
    """
    config, device, source = plan.config, plan.device, plan.source
    num_classes = len(source.classes)
    torch.use_deterministic_algorithms(config.train.deterministic)
    val = source.split("val")
    # Before the model, which may take minutes to load: a mistake in `augment` is found at once.
    build_input(config, build_preprocess(config, source), plan.train, num_classes)
    model = build_model(config, num_classes)
    # Weights are loaded into the whole model, and the optimizer is built over what is left of it
    # on the device: a part of each parameter, if it is sharded.
    if pretrained and config.model.pretrained is not None:
        start = load_start(config, model, source)
        log.info("weights %s", start.weights)
        log.info("colours %s", start.colours)
        config = start.config
        plan = replace(plan, config=config)
    preprocess = build_preprocess(config, source)
    input_ = build_input(config, preprocess, plan.train, num_classes)
    choose_trained(config, model)
    if config.train.parallel == "fsdp":
        parallel.shard(model, device)  # block by block: the whole may not fit on the device
    model.to(device)
    return Parts(
        plan=plan,
        val=val,
        task=plan.task,
        preprocess=preprocess,
        input=input_,
        model=model,
        train_loader=build_train_loader(plan, input_.augment.geometry(preprocess)),
        val_loader=bind(EvalLoader, config.data)(
            val, preprocess, plan.eval_batch_size, plan.rank, device
        ),
        criterion=build_criterion(plan, model).to(device),
        teacher=build_teacher(config, source.classes, preprocess, device),
        schedule=build_schedule(plan),
        state=build_state(plan, model),
    )


def build_state(plan: Plan, model: ImageClassifier) -> TrainState:
    """Return the state of a run at its start."""
    train, rule = plan.config.train, plan.config.train.early_stopping
    return TrainState(
        model=model,
        optimizer=build_optimizer(plan.config, model),
        ema=None if train.ema_decay is None else EMA(model, train.ema_decay),
        # Only fp16 has too few exponents for small gradients.
        scaler=LossScaler(plan.device) if plan.precision == "fp16" else None,
        early_stopping=None if rule is None else bind(EarlyStopping, rule)(),
        budget=None if train.max_minutes is None else TimeBudget(train.max_minutes),
    )
