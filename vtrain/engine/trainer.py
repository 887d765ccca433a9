"""The training loop: a step at a time, evaluation when it is due, hooks for the rest."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vtrain import distributed
from vtrain.data.augment.recordable import DrawnInput, RecordableInput
from vtrain.data.loading.loader import Batch, smallest_share
from vtrain.engine.callback import Callback
from vtrain.engine.state import Meter, Metrics, TrainState
from vtrain.engine.step_graph import Step, StepGraph
from vtrain.errors import VtrainError
from vtrain.optim.gradients import clip_grad_norm, gradient_norm
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


@dataclass
class Trainer:
    """Trains `state` on batches; everything it needs is handed in.

    Args:
        state: The model, the optimizer and the position; changed in place.
        forward: The model as it is called: itself, compiled, or wrapped for several processes.
        augment: uint8 images, their indices and the epoch -> the model's input.
        mixing: Images, targets, where the first is in the global batch, step, epoch -> images and
            targets, mixed.
        criterion: The model's outputs, targets and, with a teacher, its logits -> the mean loss.
        schedule: Step -> factor of `lr`.
        evaluate: Returns the metrics of the weights as they are now.
        autocast: Makes the context that sets the precision.
        total_steps: The optimizer step after which training is done, or earlier: `state.budget`.
        world_size: Processes that share each batch.
        teacher: Says of the model's input what the model should learn beside the targets.
        graph: Records the steps on a GPU and replays them; without one they are launched as usual.
        recordable: `augment` and `mixing` in a form that is recorded with the step; without it they
            are launched as usual.
    """

    state: TrainState
    forward: nn.Module
    augment: Callable[[Tensor, Tensor, int], Tensor]
    mixing: Callable[[Tensor, Tensor, int, int, int], tuple[Tensor, Tensor]]
    criterion: Callable[..., Tensor]
    schedule: Callable[[int], float]
    evaluate: Callable[[], Metrics]
    autocast: Callable[[], AbstractContextManager[None]]
    callbacks: list[Callback]
    lr: float
    total_steps: int
    steps_per_epoch: int
    eval_every: int
    log_every: int
    accum_steps: int
    grad_clip_norm: float | None
    seed: int
    rank: int
    world_size: int
    teacher: Callable[[Tensor], Tensor] | None = None
    graph: StepGraph | None = None
    recordable: RecordableInput | None = None
    clock: Stopwatch = field(default_factory=Stopwatch)
    """For the speed that is logged."""
    _lr: float = 0.0

    def fit(self, loader: Loader) -> None:
        """Train to the last step, or until a callback asks to stop."""
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
        if state.step < self.total_steps and self.is_done:
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
            if state.budget is not None:
                state.budget.tick()
            if state.step % self.log_every == 0 or state.epoch_step == 0 or self.is_done:
                self.log()
            for callback in self.callbacks:
                callback.on_step_end(state)
            if state.should_stop or self.is_done:
                break

    def evaluate_if_due(self) -> None:
        """Evaluate at the end of an epoch, every `eval_every` of them, and of the training."""
        state = self.state
        epoch_end = state.epoch_step == 0 and state.epoch % self.eval_every == 0
        due = epoch_end or self.is_done
        if due and state.step > state.evaluated_step and not state.should_stop:
            try:
                metrics = self.evaluate()
            except VtrainError:  # such as a validation image that cannot be read
                if self.world_size == 1:  # others would have to take part in saving
                    for callback in self.callbacks:  # so that what was trained is not lost
                        callback.on_epoch_end(state)
                raise
            state.evaluated_step = state.step
            for callback in self.callbacks:
                callback.on_eval_end(state, metrics)

    def train_step(self, batch: Batch) -> None:
        """Make one optimizer step from this process's share of a batch."""
        state = self.state
        torch.manual_seed(hash_ints(self.seed, state.step, self.rank))  # dropout and drop path
        self._lr = self.lr_now
        set_lr(state.optimizer, self._lr)
        share = len(batch.images)
        if share == 0:  # every process must take part in the exchange of gradients
            batch = placeholder(batch)
        step, inputs = self.prepared(batch)
        # Gradients are averaged over the processes, whose shares may differ in size.
        weight = self.world_size / batch.total if share else 0.0
        # Every process cuts its share into as many pieces: sharded models compute in step.
        least = smallest_share(batch.total, self.world_size)
        count = max(1, min(self.accum_steps, least, share))
        skipped = state.skipped
        state.guard.set_step(state.step + 1)
        if self.graph is None:
            loss = step(*inputs, weight, count)
        else:
            loss = self.graph(step, inputs, weight, count)
        state.loss.add(loss)
        state.step += 1
        if state.ema is not None and state.skipped == skipped:
            state.ema.update(state.model, state.step - skipped)
        state.epoch_step += 1
        if state.epoch_step == self.steps_per_epoch:
            state.epoch, state.epoch_step = state.epoch + 1, 0

    def prepared(self, batch: Batch) -> tuple[Step, tuple[Any, ...]]:
        """Return what makes a step, and its inputs: augmented, unless that is a part of it."""
        step, epoch = self.state.step, self.state.epoch
        if self.recordable is not None and self.graph is not None and not self.graph.is_off:
            drawn = self.recordable.draw(batch, step, epoch)
            return self.augment_and_optimize, (batch.images, batch.targets, drawn)
        images = self.augment(batch.images, batch.indices, epoch)
        return self.optimize, self.mixing(images, batch.targets, batch.start, step, epoch)

    def augment_and_optimize(
        self, images: Tensor, targets: Tensor, drawn: DrawnInput, weight: float, count: int
    ) -> Tensor:
        """Do all of a step that is done on the device, for a `StepGraph` to record."""
        assert self.recordable is not None
        images, targets = self.recordable.apply(images, targets, drawn)
        return self.optimize(images, targets, weight, count)

    def optimize(self, images: Tensor, targets: Tensor, weight: float, count: int) -> Tensor:
        """Compute the gradients and update the weights; see `backward` for the arguments.

        A step that is the same every time, for a `StepGraph` to record: what differs from one to
        the next is on the device.
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(images, targets, weight, count)
        self.update()
        return loss

    def backward(self, images: Tensor, targets: Tensor, weight: float, count: int) -> Tensor:
        """Add the gradients of the summed loss times `weight`, in `count` pieces.

        Returns:
            That loss, still on the device. Shape: ().
        """
        total = torch.zeros((), device=images.device)
        pieces = list(zip(images.tensor_split(count), targets.tensor_split(count), strict=True))
        for number, (x, y) in enumerate(pieces, start=1):
            is_last = number == len(pieces)
            with nullcontext() if is_last else distributed.no_sync(self.forward):
                with self.autocast():
                    outputs = self.forward(x)
                    taught = () if self.teacher is None else (self.teacher(x),)
                loss = self.criterion(outputs, y, *taught) * (len(x) * weight)
                scaled = self.state.scaler.scale(loss) if self.state.scaler else loss
                scaled.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()  # kept on the device: .item() here would wait for it
        return total

    def update(self) -> None:
        """Clip the gradients and step the optimizer if they are finite."""
        state = self.state
        parameters = state.model.parameters()
        if state.scaler is None:
            state.guard.step(gradient_norm(parameters), self.grad_clip_norm)
            return
        state.scaler.unscale(state.optimizer)
        clip_grad_norm(parameters, self.grad_clip_norm)
        if not state.scaler.step(state.optimizer, state.step + 1):
            state.skipped += 1

    def log(self) -> None:
        """Hand the means since the last row to the callbacks; this waits for the device.

        Raises:
            DivergedError: A loss or gradient since the last row was not finite.
        """
        self.state.guard.check()
        # Each process has its part of the loss, weighted so that their mean is the batch's.
        loss = distributed.all_sum(self.state.loss.mean()) / self.world_size
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
        return self.state.step >= self.total_steps or (budget is not None and budget.elapsed >= 1)

    @property
    def lr_now(self) -> float:
        """The base learning rate of the next step; steps that fp16 skipped do not count."""
        return self.lr * self.schedule(self.state.step - self.state.skipped)


def placeholder(batch: Batch) -> Batch:
    """Stand in one black image for a share without images; its loss must be weighted with 0."""
    images = batch.images.new_zeros(1, *batch.images.shape[1:])
    target, index = batch.targets.new_zeros(1), batch.indices.new_zeros(1)
    return Batch(images, target, index, batch.start, batch.total)
