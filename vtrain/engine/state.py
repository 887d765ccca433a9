"""What a run is at one instant: all that must be saved to go on as if nothing had happened."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtrain import distributed
from vtrain.distributed import parallel
from vtrain.engine.budget import TimeBudget
from vtrain.engine.early_stopping import EarlyStopping
from vtrain.engine.ema import EMA
from vtrain.optim.gradients import LossScaler, StepGuard

Metrics = dict[str, float]
"""Names such as `val/top1` and their values."""


@dataclass
class Meter:
    """A running mean that stays on the device until somebody reads it."""

    total: Tensor | float = 0.0
    count: int = 0

    def add(self, value: Tensor) -> None:
        """Add one value. Shape: ()."""
        self.total = self.total + value.double()
        self.count += 1

    def mean(self) -> Tensor:
        """Return the mean, still on the device. Shape: ()."""
        return torch.as_tensor(self.total, dtype=torch.float64) / max(1, self.count)


@dataclass
class TrainState:
    """The run's parts that change, and its position.

    `step` and `epoch` count completed optimizer steps and passes; `epoch_step` counts the steps
    completed within the current pass.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None = None
    scaler: LossScaler | None = None
    early_stopping: EarlyStopping | None = None
    budget: TimeBudget | None = None
    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    skipped: int = 0
    """Steps without an update because fp16 gradients overflowed."""
    evaluated_step: int = 0
    """The step of the last evaluation."""
    best: float | None = None
    metrics: Metrics = field(default_factory=dict)
    """What the last evaluation gave."""
    loss: Meter = field(default_factory=Meter)
    rows: int = 0
    """Lines of `metrics.jsonl` written so far, so that a resumed run can cut what came after."""
    stop_reason: str | None = None
    """Why training ends before its last step; any callback may set it."""

    COUNTERS: ClassVar = (
        "step",
        "epoch",
        "epoch_step",
        "skipped",
        "evaluated_step",
        "best",
        "metrics",
        "rows",
    )

    def __post_init__(self) -> None:
        self.guard = StepGuard(self.optimizer)

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked training to end after the current step."""
        return self.stop_reason is not None

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors from which `load_state_dict` restores the run.

        Of a sharded model all processes must call it, and the main one gets the whole tensors.
        """
        large = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }
        return {
            **parallel.gathered(large, keep=distributed.is_main()),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "budget": self.budget.state_dict() if self.budget else None,
            "loss": {"total": float(self.loss.total), "count": self.loss.count},
            **{name: getattr(self, name) for name in self.COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, into parts built from the same config."""
        model = parallel.sharded_like(state["model"], self.model.state_dict())
        self.model.load_state_dict(model)
        load_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            averages = parallel.sharded_like(state["ema"]["weights"], self.ema.weights)
            self.ema.load_state_dict({"weights": averages})
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.early_stopping is not None:
            self.early_stopping.load_state_dict(state["early_stopping"])
        if self.budget is not None:
            self.budget.load_state_dict(state["budget"])
        self.loss = Meter(**state["loss"])
        for name in self.COUNTERS:
            setattr(self, name, state[name])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimizer whose parameters may be elsewhere, or cut, than when it was saved."""
    fused = [group.get("fused") for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, can_fuse in zip(optimizer.param_groups, fused, strict=True):
        group["fused"] = can_fuse  # a choice of this run's device, not of the run
        group["lr"] = float(group["lr"])  # a recorded step had it on the device
    parallel.shard_optimizer(optimizer)
