"""The numbers of a run that follow from its config, the machine and the size of the dataset."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from vtrain.config import Config
from vtrain.data.datasets.samples import Samples, Source
from vtrain.data.labels import images_per_class
from vtrain.device import missing_compiler
from vtrain.distributed import Rank
from vtrain.errors import ConfigError
from vtrain.inference.tasks import Task, task_for


@dataclass(frozen=True)
class Plan:
    """What is decided once, before a part of a run is built.

    The dataset belongs to it because the number of its images does: to list a folder of a million
    files takes minutes.
    """

    config: Config
    """As the run saves it: `train.batch_size` is a number."""
    device: torch.device
    precision: str
    """A key of `vtrain.device.DTYPES`."""
    rank: Rank
    source: Source
    train: Samples

    @property
    def batch_size(self) -> int:
        """Images of a step, over all processes."""
        size = self.config.train.batch_size
        assert size != "auto", "a plan is made with a number"
        return size

    @property
    def eval_batch_size(self) -> int:
        """Images of an evaluation step of this process."""
        return self.config.train.eval_batch_size or self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; a partial last batch is a step."""
        return -(-len(self.train) // self.batch_size)

    @property
    def schedule_steps(self) -> int:
        """Optimizer steps of all epochs, which the schedule is made for."""
        return self.config.train.epochs * self.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Optimizer steps after which the run ends: `max_steps` cuts it short."""
        return min(self.schedule_steps, self.config.train.max_steps or self.schedule_steps)

    @property
    def lr(self) -> float:
        """The base rate, scaled with the batch size if that is asked for."""
        lr: float = self.config.optimizer.lr  # type: ignore[attr-defined] # every optimizer has it
        base = self.config.optimizer.lr_base_size
        # The linear rule: Goyal et al., arXiv:1706.02677, section 2.1.
        scaled = lr if base is None else lr * self.batch_size / base
        if not math.isfinite(scaled):
            what = f"optimizer.lr ({lr:g}) is infinite once it is scaled to {self.batch_size}"
            raise ConfigError(what, "optimizer.lr_base_size", "take a lower optimizer.lr")
        return scaled

    @property
    def compiles(self) -> bool:
        """Whether torch.compile compiles the model."""
        train = self.config.train
        # A sharded model is compiled only where that is asked for.
        if train.compile == "auto":
            wanted = self.device.type == "cuda" and train.parallel == "ddp"
            return wanted and missing_compiler(self.device) is None
        return train.compile

    @cached_property
    def task(self) -> Task:
        """What the model is asked of an image, as the labels have it."""
        return task_for(self.train.targets, len(self.source.classes))

    @property
    def best_metric(self) -> str:
        """The metric that chooses `best.pt`."""
        return self.metric_of(self.config)

    def metric_of(self, config: Config) -> str:
        """Return the metric that chooses `best.pt` by a config of this run."""
        named = config.checkpoint.best_metric
        return self.task.metrics[0] if named == "auto" else named

    @cached_property
    def class_counts(self) -> list[int]:
        """Training images of each class."""
        counts = images_per_class(self.train.targets, len(self.source.classes))
        return list(map(int, counts))

    @property
    def images_at_once(self) -> int:
        """Images that a process computes at once, at most: a piece of its share of a batch."""
        pieces = self.rank.world_size * self.config.train.accum_steps
        return -(-min(self.batch_size, len(self.train)) // pieces)

    def changed(self, **train: object) -> "Plan":
        """Return a plan with other values of `train`'s keys."""
        changed = self.config.train.model_copy(update=train)
        return replace(self, config=self.config.model_copy(update={"train": changed}))
