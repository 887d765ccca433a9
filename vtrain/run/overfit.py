"""`vtrain fit CONFIG --overfit N`: memorise N images. What cannot do that cannot learn more."""

import logging
from dataclasses import replace

from vtrain.config import Config, switched_off
from vtrain.device import choose_device
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.errors import ConfigError
from vtrain.registry import SCHEDULES
from vtrain.run.build.batch_size import with_batch_size, with_number
from vtrain.run.build.data import build_source
from vtrain.run.build.parts import build_parts
from vtrain.run.build.plan import batch_size
from vtrain.run.build.trainer import build_trainer

log = logging.getLogger(__name__)

STEPS, EVERY, WARMUP = 500, 10, 20  # at most; between evaluations; of which the rate rises


class UntilMemorised(Callback):
    """Says how many images are memorised, and stops at all of them."""

    def __init__(self, count: int) -> None:
        self.count, self.known = count, 0

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.known = round(metrics["val/top1"] * self.count)
        log.info("step %d: %d of %d images are memorised", state.step, self.known, self.count)
        if self.known == self.count:
            state.stop_reason = "all images are memorised"


def overfit(config: Config, count: int) -> int:
    """Train on `count` images without augmentation or dropping, until the model knows all of them.

    Returns:
        The steps that this took.

    Raises:
        ConfigError: It does not, in `STEPS` steps.
    """
    device = choose_device(config.train.device)
    config = memorising(with_batch_size(config, device, Rank(), trial=True), count)
    source = replace(build_source(config), only="train")  # evaluation sees what is trained on
    parts = build_parts(config, device, Rank(), source)
    watch = UntilMemorised(len(parts.train))
    build_trainer(config, parts, Rank(), [watch]).fit(parts.train_loader)
    parts.train_loader.close()
    if watch.known < watch.count:
        raise ConfigError(
            f"{watch.known} of {watch.count} images were memorised in {parts.state.step} steps",
            "train",
            "what cannot do that cannot learn more: see check --lr-find and check --data",
        )
    return parts.state.step


def memorising(config: Config, count: int) -> Config:
    """Return the config without what keeps a model from memorising, and with enough steps."""
    constant = (
        SCHEDULES["constant"].section().model_validate({"name": "constant", "warmup_steps": WARMUP})
    )
    config = with_number(config, min(batch_size(config), count))
    steps_per_epoch = -(-count // batch_size(config))
    long = {"epochs": -(-STEPS // steps_per_epoch), "eval_every": -(-EVERY // steps_per_epoch)}
    train = {**switched_off(config.train), **long}
    few = {**switched_off(config.data), "limit": count}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=switched_off(config.model)),
            "data": config.data.model_copy(update=few),
            "augment": config.augment.model_copy(update=switched_off(config.augment)),
            "schedule": constant,
            "train": config.train.model_copy(update=train),
        }
    )
