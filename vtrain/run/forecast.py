"""How long a run will take, said before it starts: from a few steps and images that are tried."""

import logging
import time
from dataclasses import dataclass

import torch

from vtrain.bench.machine import wait
from vtrain.callbacks.progress import clock
from vtrain.errors import counted
from vtrain.run.build.parts import Parts
from vtrain.run.build.plan import Plan
from vtrain.run.build.trial import trial_steps

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds of steps after which no larger one is tried."""
READ = 8
"""Images of each split that are read."""
FORWARD = 1 / 3
"""The part of a training step that is the forward pass: the backward one computes twice as much."""


@dataclass(frozen=True)
class Costs:
    """What a run of one process is made of, and how long each part takes.

    Args:
        images: Training images; `val` are those held out.
        step: Seconds of training for each image.
        read: Seconds to read a training image in each epoch.
        once: Seconds to read all that is read a single time.
        workers: Processes that read training images while the model trains; 0 reads in between.
    """

    images: int
    val: int
    step: float
    read: float
    once: float
    workers: int

    @property
    def training(self) -> float:
        """Seconds of the training of an epoch."""
        if self.workers:
            return self.images * max(self.step, self.read / self.workers)
        return self.images * (self.step + self.read)

    @property
    def evaluation(self) -> float:
        """Seconds of an evaluation whose images have been read before."""
        return self.val * self.step * FORWARD

    def until_figures(self, epochs: float) -> float:
        """Return the seconds until the first evaluation, after so many epochs."""
        return self.once + epochs * self.training + self.evaluation

    def until_end(self, epochs: float, every: float) -> float:
        """Return the seconds of so many epochs, evaluated every so many of them."""
        return self.until_figures(every) + (epochs - every) * (
            self.training + self.evaluation / every
        )


def say_forecast(parts: Parts) -> None:
    """Say when a run of one process will have its first figures, and when it will end."""
    plan, train = parts.plan, parts.plan.config.train
    try:
        rate, tried = images_per_second(plan)
    except torch.OutOfMemoryError:  # beside the run itself there is no room for a trial
        return
    loader, val = parts.train_loader.decoded, parts.val_loader.decoded
    read, once = loader.seconds_per_image(READ), val.seconds_per_image(READ) * len(parts.val)
    if not loader.transform.varies:  # kept from the first epoch on
        read, once = 0.0, once + read * len(plan.train)
    costs = Costs(len(plan.train), len(parts.val), 1 / rate, read, once, loader.num_workers)
    epochs = plan.total_steps / plan.steps_per_epoch
    every = min(train.eval_every, epochs)
    first, end = costs.until_figures(every), costs.until_end(epochs, every)
    if train.max_minutes is not None:
        limit = 60 * train.max_minutes
        first, end = min(first, limit), min(end, limit)
    log.info(
        "time    about %s, the first figures after about %s: estimated by trying a step of %s",
        clock(max(1, end)),
        clock(max(1, first)),
        counted(tried, "image"),
    )


def images_per_second(plan: Plan) -> tuple[float, int]:
    """Try steps of 1, 2, 4, ... images; return the speed of the last, and how many images it had.

    That one is made twice, as the first of its size is slower.
    """
    _, step = trial_steps(plan)
    most = min(plan.batch_size, len(plan.train))

    def seconds(images: int) -> float:
        start = time.perf_counter()
        step(images)
        wait(plan.device)
        return time.perf_counter() - start

    images, until = 1, time.perf_counter() + PATIENCE
    seconds(images)
    while images < most and time.perf_counter() < until:
        images = min(2 * images, most)
        seconds(images)
    return images / seconds(images), images
