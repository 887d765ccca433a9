"""Build a run's optimizer, schedule and losses."""

from collections.abc import Callable

import torch
from torch import nn

from vtrain.config import Config
from vtrain.engine.state import TrainState
from vtrain.errors import ConfigError
from vtrain.models.base import ImageClassifier
from vtrain.optim.distillation import BothHeads, Distillation
from vtrain.optim.schedules import Schedule, fitted_step
from vtrain.registry import LOSSES, OPTIMIZERS, SCHEDULES, bind, section
from vtrain.run.build.plan import Plan


def build_optimizer(config: Config, model: ImageClassifier) -> torch.optim.Optimizer:
    """Return the optimizer over the model's trainable parameters."""
    build = bind(OPTIMIZERS[config.optimizer.name], config.optimizer)
    with section("optimizer"):
        optimizer: torch.optim.Optimizer = build(model)
    return optimizer


def build_schedule(plan: Plan) -> Callable[[int], float]:
    """Return step -> factor of `optimizer.lr`, over all epochs even if `max_steps` ends sooner."""
    named = plan.config.schedule
    with section("schedule"):
        schedule: Callable[[int], float] = bind(SCHEDULES[named.name], named)(
            plan.schedule_steps, plan.steps_per_epoch
        )
    return schedule


def fitted(schedule: Callable[[int], float], steps: int, state: TrainState) -> Schedule:
    """Return a schedule of `steps` steps that ends with the run's time, if that is over first."""
    budget = state.budget
    if budget is None:
        return schedule
    return lambda step: schedule(fitted_step(step, steps, budget.elapsed))


def build_loss(config: Config, class_counts: list[int], classes: tuple[str, ...]) -> nn.Module:
    """Return logits and targets -> loss.

    Raises:
        ConfigError: It would correct twice for classes of different size.
    """
    balanced = config.data.balanced  # type: ignore[attr-defined] # a key of TrainLoader
    if balanced and getattr(config.train.loss, "tau", 0):
        what = (
            "train.loss.tau corrects for frequent classes, which data.balanced draws no more often"
        )
        raise ConfigError(what, hint="leave one of them out")
    build = bind(LOSSES[config.train.loss.name], config.train.loss)
    with section("train.loss"):
        loss: nn.Module = build(class_counts, classes)
    return loss


def build_criterion(plan: Plan, model: ImageClassifier) -> nn.Module:
    """Return the model's outputs, targets and the teacher's logits, if there is one -> loss."""
    config = plan.config
    loss = build_loss(config, plan.class_counts, plan.source.classes)
    if config.train.distillation is not None:
        with section("train.distillation"):
            return bind(Distillation, config.train.distillation)(loss)
    # A class and a distillation head, of which only the first would learn.
    return BothHeads(loss) if getattr(model, "head_dist", None) is not None else loss
