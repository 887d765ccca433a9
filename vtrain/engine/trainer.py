"""The training loop: a step at a time, evaluation when it is due, hooks for the rest."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vtrain import distributed
from vtrain.data.loading.batches import Batch, smallest_share
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.state import Meter, Metrics, TrainState
from vtrain.engine.step import StepFunction
from vtrain.errors import DivergedError, VtrainError
from vtrain.optim.gradients import STEADIER
from vtrain.optim.groups import set_lr
from vtrain.rng import hash_ints


class Loader(Protocol):
    """Gives the batches of an epoch in an order that depends on the epoch alone."""

    def __len__(self) -> int: ...
    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


@dataclass
class Stopwatch:
    """Counts images against time spent training, evaluation left out."""

    images: int = 0
    since: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """Begin at zero images now."""
        self.images, self.since = 0, time.monotonic()

    def rate(self) -> float:
        """Return images per second since the last call or restart, and begin anew."""
        rate = self.images / max(time.monotonic() - self.since, 1e-9)
        self.restart()
        return rate


@dataclass(frozen=True)
class Intervals:
    """How long training is, and how often something happens in it."""

    total_steps: int
    """The optimizer step after which training is done, or earlier: `TrainState.budget`."""
    steps_per_epoch: int
    eval_every: int
    """Epochs between evaluations; the last step is always evaluated."""
    log_every: int
    """Optimizer steps between rows of metrics; there is also one at each epoch's end."""


@dataclass
class Trainer:
    """Trains `state` on batches; everything it needs is handed in.

    Args:
        input: Batch, step, epoch -> the model's input and targets.
        optimize: Makes an optimizer step of `state` from them.
        schedule: Step -> factor of `lr`.
        callbacks: Called in order at each event; see `Callback` for what the order means.
        accum_steps: Pieces that a process cuts its share of a batch into, at most.
        rank: This process among those that share each batch.
    """

    state: TrainState
    input: Callable[[Batch, int, int], tuple[Tensor, Tensor]]
    optimize: StepFunction
    schedule: Callable[[int], float]
    lr: float
    evaluate: Callable[[], Metrics]
    callbacks: list[Callback]
    intervals: Intervals
    accum_steps: int
    seed: int
    rank: Rank
    clock: Stopwatch = field(default_factory=Stopwatch)
    _lr: float = 0.0

    def fit(self, loader: Loader) -> None:
        """Train to the last step, or until a callback asks to stop."""
        try:
            self._fit(loader)
        except BaseException:
            for callback in self.callbacks:
                callback.on_fit_failed(self.state)
            raise

    def _fit(self, loader: Loader) -> None:
        state = self.state
        if state.budget is not None:
            state.budget.begin()
        for callback in self.callbacks:
            callback.on_fit_start(state)
        self.evaluate_if_due()  # a run may go on where an epoch was trained but not yet evaluated
        while not self.is_done and not state.should_stop:
            self.train_epoch(loader)
            self.evaluate_if_due()
            if state.epoch_step == 0:
                for callback in self.callbacks:
                    callback.on_epoch_end(state)
        if state.step < self.intervals.total_steps and self.is_done:
            state.stop_reason = state.stop_reason or "the time of train.max_minutes is over"
        for callback in self.callbacks:
            callback.on_fit_end(state)

    def train_epoch(self, loader: Loader) -> None:
        """Train from the current position to the end of the epoch, or to an earlier stop."""
        state = self.state
        self.clock.restart()
        for batch in loader.batches(state.epoch, start=state.epoch_step):
            self.train_step(batch)
            self.clock.images += batch.total
            # The clocks first: whether the time is over decides if this step's row is the last.
            if state.budget is not None:
                state.budget.tick()
            if state.step % self.intervals.log_every == 0 or state.epoch_step == 0 or self.is_done:
                self.log()
            # After the row, so that a save at this step counts it.
            for callback in self.callbacks:
                callback.on_step_end(state)
            if state.should_stop or self.is_done:
                break

    def evaluate_if_due(self) -> None:
        """Evaluate at the end of an epoch, every `eval_every` of them, and of the training."""
        state = self.state
        epoch_end = state.epoch_step == 0 and state.epoch % self.intervals.eval_every == 0
        due = epoch_end or self.is_done
        # A run that was stopped is evaluated when it goes on: a signal leaves only seconds.
        if due and state.step > state.evaluated_step and not state.should_stop:
            try:
                metrics = self.evaluate()
            except VtrainError:  # such as a validation image that cannot be read
                # The saver's hook, so that what was trained is not lost. Of several processes the
                # others would have to take part in saving, and do not know of the error.
                if self.rank.world_size == 1:
                    for callback in self.callbacks:
                        callback.on_epoch_end(state)
                raise
            self._check_finite(metrics)
            state.evaluated_step = state.step
            for callback in self.callbacks:
                callback.on_eval_end(state, metrics)

    def _check_finite(self, metrics: Metrics) -> None:
        """Refuse what no file can hold and no rule can use: the weights have grown too large.

        Raises:
            DivergedError: A metric is not finite; the next step would not be, either.
        """
        step = self.state.step
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            what = f"{', '.join(bad)} is not finite after step {step}"
            raise DivergedError(what, hint=STEADIER, step=step + 1)

    def train_step(self, batch: Batch) -> None:
        """Make one optimizer step from this process's share of a batch."""
        state = self.state
        # For dropout and drop path. A restart at this step then drops the same again.
        torch.manual_seed(hash_ints(self.seed, state.step, self.rank.rank))
        self._lr = self.lr_now
        set_lr(state.optimizer, self._lr)
        weight = loss_weight(batch, self.rank.world_size)
        pieces = count_pieces(batch, self.rank.world_size, self.accum_steps)
        inputs, targets = self.input(non_empty(batch), state.step, state.epoch)
        state.guard.set_step(state.step + 1)  # the one to name if its loss is not finite
        skipped = state.skipped  # `optimize` counts here the fp16 steps that overflow
        loss = self.optimize(inputs, targets, weight, pieces)
        state.loss.add(loss)  # on the device until a row is logged
        self._advance(is_skipped=state.skipped > skipped)

    def _advance(self, is_skipped: bool) -> None:
        """Count a step, and let the averaged weights follow unless fp16 skipped the update."""
        state = self.state
        state.step += 1
        if state.ema is not None and not is_skipped:
            state.ema.update(state.model, state.step - state.skipped)
        state.epoch_step += 1
        if state.epoch_step == self.intervals.steps_per_epoch:
            state.epoch, state.epoch_step = state.epoch + 1, 0

    def log(self) -> None:
        """Hand the means since the last row to the callbacks; this waits for the device.

        Raises:
            DivergedError: A loss or gradient since the last row was not finite.
        """
        self.state.guard.check()
        # Each process has its part of the loss, weighted so that their mean is the batch's.
        loss = distributed.all_sum(self.state.loss.mean()) / self.rank.world_size
        self.state.loss = Meter()
        metrics = {
            "train/loss": loss.item(),
            "train/lr": self._lr,  # of the last step; a layer's own may be a part of it
            "train/images_per_second": self.clock.rate(),
        }
        for callback in self.callbacks:
            callback.on_log(self.state, metrics)

    @property
    def is_done(self) -> bool:
        """Whether the steps are made or the time is over."""
        budget = self.state.budget
        return self.state.step >= self.intervals.total_steps or (
            budget is not None and budget.elapsed >= 1
        )

    @property
    def lr_now(self) -> float:
        """The base learning rate of the next step; steps that fp16 skipped do not count."""
        return self.lr * self.schedule(self.state.step - self.state.skipped)


def loss_weight(batch: Batch, world_size: int) -> float:
    """Return the factor of each image's loss in the loss of this process's share.

    Gradients are averaged over the processes, whose shares may differ in size. Sums of losses times
    `world_size / total` have a mean that is the mean loss of the whole batch.
    """
    return world_size / batch.total if len(batch.images) else 0.0  # a placeholder teaches nothing


def count_pieces(batch: Batch, world_size: int, accum_steps: int) -> int:
    """Return into how many pieces every process cuts its share of a batch, 1 or more.

    All cut alike, as many times as the smallest share allows: a sharded model exchanges weights in
    each forward pass, so a process with fewer passes would leave the others waiting.
    """
    return max(1, min(accum_steps, smallest_share(batch.total, world_size), len(batch.images)))


def non_empty(batch: Batch) -> Batch:
    """Return the batch, or one black image for a share without any.

    Every process must take part in the exchange of gradients; such an image's loss has weight 0.
    """
    if len(batch.images):
        return batch
    images = batch.images.new_zeros(1, *batch.images.shape[1:])
    target = batch.targets.new_zeros(1, *batch.targets.shape[1:])
    return Batch(images, target, batch.indices.new_zeros(1), batch.start, batch.total)
