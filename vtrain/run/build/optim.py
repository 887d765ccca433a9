"""Build a run's optimizer, schedule and losses."""

from collections.abc import Callable

import torch
from torch import nn

from vtrain.config import Config
from vtrain.data.labels import has_several, refuse_several
from vtrain.engine.state import TrainState
from vtrain.errors import ConfigError
from vtrain.models.base import ImageClassifier
from vtrain.optim.distillation import BothHeads, Distillation
from vtrain.optim.schedules import Schedule, fitted_step
from vtrain.registry import LOSSES, OPTIMIZERS, SCHEDULES, Component, bind, section
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


def build_loss(plan: Plan) -> nn.Module:
    """Return logits and targets -> loss.

    Raises:
        ConfigError: It is not of such labels, or it would correct twice for classes of different
            size.
    """
    config, component = plan.config, LOSSES[plan.config.train.loss.name]
    balanced = config.data.balanced  # type: ignore[attr-defined] # a key of TrainLoader
    if balanced and getattr(config.train.loss, "tau", 0):
        what = (
            "train.loss.tau corrects for frequent classes, which data.balanced draws no more often"
        )
        raise ConfigError(what, hint="leave one of them out")
    handed: tuple[object, ...] = (plan.class_counts, plan.source.classes)
    if has_several(plan.train.targets):
        _check_several(plan, component)
        handed = (*handed, len(plan.train))
    with section("train.loss"):
        loss: nn.Module = bind(component, config.train.loss)(*handed)
    return loss


def _check_several(plan: Plan, component: Component) -> None:
    """Refuse a loss of one class an image for several, and one that would round shares up.

    Raises:
        ConfigError: It says what to take instead.
    """
    named, targets = plan.config.train.loss, plan.train.targets
    if not getattr(component.constructor, "takes_several", False):
        fitting = [n for n in LOSSES.names() if getattr(LOSSES[n].constructor, "takes_several", 0)]
        what = f"{named.name} is a loss of one class an image, and these have several labels each"
        raise ConfigError(what, "train.loss", f"take {' or '.join(fitting)}")
    if getattr(named, "binarize", False) and ((targets > 0) & (targets < 1)).any():
        what = "some labels are shares between 0 and 1, which binarize makes 1"
        raise ConfigError(what, "train.loss.binarize", "set it to false")


def build_criterion(plan: Plan, model: ImageClassifier) -> nn.Module:
    """Return the model's outputs, targets and the teacher's logits, if there is one -> loss."""
    config = plan.config
    loss = build_loss(plan)
    if config.train.distillation is not None:
        refuse_several(plan.train.targets, "train.distillation", "set it to null")
        with section("train.distillation"):
            return bind(Distillation, config.train.distillation)(loss)
    # A class and a distillation head, of which only the first would learn.
    return BothHeads(loss) if getattr(model, "head_dist", None) is not None else loss
