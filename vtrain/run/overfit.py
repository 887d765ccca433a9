"""`vtrain fit CONFIG --overfit N`: memorise N images. What cannot do that cannot learn more."""

import logging
from dataclasses import replace

from vtrain.config import Config, switched_off
from vtrain.data.datasets.folder import ImageFolder
from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.errors import ConfigError
from vtrain.registry import SCHEDULES
from vtrain.run.build.data import build_source
from vtrain.run.build.parts import build_parts
from vtrain.run.build.plan import Plan
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer

log = logging.getLogger(__name__)

STEPS, EVERY, WARMUP = 500, 10, 20  # at most; between evaluations; of which the rate rises


class UntilMemorised(Callback):
    """Says how many images are memorised, and stops at all of them.

    `right` is the metric that is their share.
    """

    def __init__(self, count: int, right: str) -> None:
        self.count, self.right, self.known = count, right, 0

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.known = round(metrics[self.right] * self.count)
        log.info("step %d: %d of %d images are memorised", state.step, self.known, self.count)
        if self.known == self.count:
            state.stop_reason = "all images are memorised"


def overfit(config: Config, count: int, listed: ImageFolder | None = None) -> int:
    """Train on `count` images without augmentation or dropping, until the model knows all of them.

    `listed` is the folder of images that the config was made for.

    Returns:
        The steps that this took.

    Raises:
        ConfigError: It does not, in `STEPS` steps.
    """
    config = memorising(config, count)
    # Evaluation sees what is trained on.
    source = replace(build_source(config, listed=listed), only="train")
    plan = shortened(resolve(config, source=source))
    parts = build_parts(plan)
    watch = UntilMemorised(len(plan.train), plan.task.right)
    build_trainer(parts, [watch]).fit(parts.train_loader)
    parts.train_loader.close()
    if watch.known < watch.count:
        raise ConfigError(
            f"{watch.known} of {watch.count} images were memorised after step {parts.state.step}",
            "train",
            "what cannot do that cannot learn more: see check --lr-find and check --data",
        )
    return parts.state.step


def memorising(config: Config, count: int) -> Config:
    """Return the config for `count` images, without what keeps a model from memorising them."""
    # A batch has each image once at most; the rate may depend on how many it has.
    size = config.train.batch_size
    train = {"batch_size": size if size == "auto" else min(size, count)}
    # An epoch has a step at least: enough for the warm-up. How many it has the plan will say.
    train["epochs"] = STEPS
    sections = {name: switched_off(getattr(config, name)) for name in ("model", "data", "augment")}
    sections["data"]["limit"] = count
    sections["train"] = {**switched_off(config.train), **train}
    changed = {name: getattr(config, name).model_copy(update=v) for name, v in sections.items()}
    section = SCHEDULES["constant"].section()
    changed["schedule"] = section.model_validate({"name": "constant", "warmup_steps": WARMUP})
    return config.model_copy(update=changed)


def shortened(plan: Plan) -> Plan:
    """Return a plan of about `STEPS` steps, evaluated about every `EVERY` of them."""
    steps = plan.steps_per_epoch
    return plan.changed(epochs=-(-STEPS // steps), eval_every=-(-EVERY // steps))
