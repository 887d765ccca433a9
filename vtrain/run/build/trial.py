"""Steps of a plan that is only tried: real ones, on black images, with parts that nobody keeps."""

from collections.abc import Callable
from dataclasses import replace

import torch

from vtrain.data.loading.batches import Batch
from vtrain.distributed import Rank
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.plan import Plan
from vtrain.run.build.trainer import build_step, build_trainer


def trial_steps(plan: Plan) -> tuple[Parts, Callable[[int], None]]:
    """Return parts as the plan describes them, and what makes a step of so many images with them.

    The parts are those of one process with random weights: others take the same time and memory.
    Nothing is compiled. Loaders read no image before they are asked for one, so that none is read.
    """
    random = plan.config.model.model_copy(update={"pretrained": None})
    plan = replace(plan, config=plan.config.model_copy(update={"model": random}), rank=Rank())
    parts, device = build_parts(plan), plan.device
    trainer = build_trainer(parts, [], build_step(parts, forward=parts.model))
    size, channels = parts.preprocess.image_size, parts.preprocess.channels

    def step(images: int) -> None:
        black = torch.zeros((images, channels, size, size), dtype=torch.uint8, device=device)
        targets = plan.train.targets.new_zeros((images, *plan.train.targets.shape[1:])).to(device)
        trainer.train_step(Batch(black, targets, torch.arange(images), 0, images))

    return parts, step
