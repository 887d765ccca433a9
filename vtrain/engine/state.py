"""What a run is at one instant: all that must be saved to go on as if nothing had happened."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtrain import distributed
from vtrain.distributed import parallel
from vtrain.engine.budget import TimeBudget
from vtrain.engine.early_stopping import EarlyStopping
from vtrain.engine.ema import EMA
from vtrain.layers import low_rank
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
    completed within the current pass. The trainer alone changes them, and the parts. A field that
    a callback changes says which one.
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
    """The best value so far of the metric that decides; see `record_evaluation`."""
    metrics: Metrics = field(default_factory=dict)
    """What the last evaluation gave; see `record_evaluation`."""
    loss: Meter = field(default_factory=Meter)
    rows: int = 0
    """Rows of metrics written so far, so that a resumed run can cut what came after. `MetricsFile`
    counts them."""
    stop_reason: str | None = None
    """Why training ends before its last step; any callback may set it."""

    # What a checkpoint holds under these names, beside the parts. No guard and no reason to stop:
    # a run that goes on has neither diverged nor been stopped.
    COUNTERS: ClassVar = (
        *("step", "epoch", "epoch_step", "skipped"),
        *("evaluated_step", "best", "metrics", "rows"),
    )

    def __post_init__(self) -> None:
        # Not a field: `replace` makes another guard for the same optimizer, as `apart` says.
        self.guard = StepGuard(self.optimizer)

    def apart(self) -> "TrainState":
        """Return the same parts at the same position, for steps that are not of the run.

        Counters, loss and guard are its own: what happens there is not told in the run.
        """
        return replace(self, loss=Meter())

    def record_evaluation(self, metrics: Metrics, best_metric: str) -> bool:
        """Take over what an evaluation gave, and return whether it is the best so far.

        A loss is minimised, all else maximised. Of equal values the first stays best, and one that
        is not finite is never the best.
        """
        self.metrics = metrics
        value = metrics[best_metric]
        if not math.isfinite(value):
            return False
        sign = -1 if best_metric == "val/loss" else 1
        is_best = self.best is None or sign * value > sign * self.best
        if is_best:
            self.best = value
        return is_best

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked training to end after the current step."""
        return self.stop_reason is not None

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors from which `load_state_dict` restores the run.

        Of a sharded model all processes must call it, and the main one gets the whole tensors.
        """
        # Gathered in one go, in the same order in every process: each tensor is an exchange.
        large = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }
        return {
            **self._merged(parallel.gathered(large, keep=distributed.is_main())),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "early_stopping": self.early_stopping.state_dict() if self.early_stopping else None,
            "budget": self.budget.state_dict() if self.budget else None,
            "loss": {"total": float(self.loss.total), "count": self.loss.count},
            **{name: getattr(self, name) for name in self.COUNTERS},
        }

    @torch.no_grad()
    def _merged(self, large: dict[str, Any]) -> dict[str, Any]:
        """Make low-rank updates a part of the weights; what these are made of stays beside them.

        Who evaluates a checkpoint knows nothing of it, and a run goes on with the very numbers.
        """
        if not low_rank.is_adapted(self.model):
            return large
        model, ema = large["model"], large["ema"]
        lora: dict[str, Any] = {"model": low_rank.parts(model), "ema": None}
        merged = {**large, "model": low_rank.merged(self.model, model), "lora": lora}
        if ema is not None:
            # What is fixed is its own average.
            lora["ema"] = low_rank.parts(ema["weights"], with_fixed=False)
            merged["ema"] = {"weights": low_rank.merged(self.model, ema["weights"])}
        return merged

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, into parts built from the same config."""
        if (lora := state.get("lora")) is not None:
            state = {**state, "model": low_rank.separated(state["model"], lora["model"])}
            if state["ema"] is not None:
                made_of = {**lora["model"], **lora["ema"]}
                state["ema"] = {"weights": low_rank.separated(state["ema"]["weights"], made_of)}
        # The file has whole tensors; of a sharded model each process takes its part. Weights and
        # averages are overwritten in place: the optimizer and DDP's buckets hold their addresses.
        model = parallel.sharded_like(state["model"], self.model.state_dict())
        self.model.load_state_dict(model)
        load_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            averages = parallel.sharded_like(state["ema"]["weights"], self.ema.weights)
            self.ema.load_state_dict({"weights": averages})
        # With precision `auto`, a run may go on where it needs no scaler, or did not have one.
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        # A rule or a budget that the run did not have before begins to count now.
        if self.early_stopping is not None and state["early_stopping"] is not None:
            self.early_stopping.load_state_dict(state["early_stopping"])
        if self.budget is not None and state["budget"] is not None:
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
