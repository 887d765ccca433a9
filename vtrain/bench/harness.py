"""What is timed of a run that is ready to train: the whole, its bare step, its data, its parts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from vtrain.bench.machine import device_memory, reset_peak_memory
from vtrain.bench.report import Layer
from vtrain.bench.throughput import TURNS, ThroughputMeter
from vtrain.bench.timing import Watches, rate, windows
from vtrain.bench.work import Work
from vtrain.data.input import Input
from vtrain.data.loading.batches import Batch
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.device import DTYPES
from vtrain.engine.step import OptimizerStep
from vtrain.engine.trainer import Loader, Trainer
from vtrain.inference.evaluate import evaluate
from vtrain.inference.tasks import Task

LONGEST = 1.0
"""Seconds of a window that takes turns at most, but a step at least: a machine's speed changes
quickly."""


@dataclass
class Harness:
    """A run that is ready to train, and what is timed of it."""

    trainer: Trainer
    """The whole run, with all that it writes and shows; it must not end and not evaluate."""
    bare: Trainer
    """The same without augmentation, with a position and a recording of its own."""
    step: OptimizerStep
    """The trainer's step as it is launched, whatever may record it."""
    input: Input
    loader: TrainLoader
    val_loader: EvalLoader
    normalise: Callable[[Tensor], Tensor]
    """Turns evaluation images into the model's input."""
    task: Task
    """How it is judged."""
    batch: Batch
    """A batch as the loader gives it."""
    warm_up: int
    """Steps until a recording of the bare step is replayed."""
    ready: Batch = field(init=False)
    """The same batch, augmented and mixed."""

    def __post_init__(self) -> None:
        images, targets = self.input(self.batch, step=0, epoch=0)
        self.ready = replace(self.batch, images=images, targets=targets)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.batch.images.device

    def close(self) -> None:
        """End the loaders' processes."""
        self.loader.close()
        self.val_loader.close()

    def layers(self, seconds: float) -> dict[str, Layer]:
        """Time every layer; the bare step and the whole run take turns."""
        bare, run = self.in_turns(seconds)
        return {
            "bare step": bare,
            "data only": self._layer(self.data_step(), seconds / 2),
            "end to end": run,
            "evaluation": self._layer(self.evaluation_step(), seconds / 2),
        }

    def in_turns(self, seconds: float) -> tuple[Layer, Layer]:
        """Train as `vtrain fit` does, with all that it writes, and pause for bare steps."""
        device, bare = self.device, self.bare_step()

        def pause() -> int:
            images = bare()
            self.trainer.clock.restart()  # the run's own log leaves the pause out
            return images

        # Before the run's turns begin: afterwards nobody could tell whose memory the peak was.
        reset_peak_memory(device)
        about = rate(bare, 1, device)
        bare_memory = device_memory(device)
        reset_peak_memory(device)
        window = min(seconds / TURNS, LONGEST)  # seconds, of the bare step
        steps = max(1, round(window * about / len(self.batch.images)))
        meter = self._fit(self.trainer, self.loader, seconds, steps, pause)
        return (
            Layer.of(meter.competitor_rates, bare_memory),
            Layer.of(meter.rates, device_memory(device)),
        )

    def bare_step(self) -> Callable[[], int]:
        """Return what makes a step on a batch that lies on the device, augmented and mixed."""

        def step() -> int:
            self.bare.train_step(self.ready)
            return len(self.ready.images)

        for _ in range(self.warm_up):  # nobody wants to time a capture
            step()
        return step

    def data_step(self) -> Callable[[], int]:
        """Return what fetches, augments and mixes the next batch, epoch after epoch."""

        def sizes() -> Iterator[int]:
            for epoch in count():
                for step, batch in enumerate(self.loader.batches(epoch)):
                    self.input(batch, step, epoch)
                    yield len(batch.images)

        batches = sizes()
        return lambda: next(batches)

    def evaluation_step(self) -> Callable[[], int]:
        """Return what evaluates one batch that lies on the device."""
        batch, model = next(iter(self.val_loader.batches())), self.trainer.state.model
        images = len(batch.images)

        def step() -> int:
            autocast, tally = self.step.autocast, self.task.tally(images, self.device)
            evaluate(model, [batch], self.normalise, autocast, lambda one: one, tally=tally)
            return images

        return step

    def split(self, seconds: float) -> dict[str, float]:
        """Return the time of each part of a step; on a GPU the parts are waited for one by one."""
        watches, state = Watches(self.device), self.trainer.state
        # Launched as usual: nothing inside of a graph could be watched.
        trainer = replace(self.trainer, optimize=self.step)
        before = state.step
        with ExitStack() as stack:
            for method in ("draw", "apply"):
                stack.enter_context(watches.on(self.input.augment, method, "augment"))
                stack.enter_context(watches.on(self.input.mixing, method, "mixing"))
            for method in ("forward", "criterion", "backward", "update"):
                stack.enter_context(watches.on(self.step, method, method))
            stack.enter_context(watches.on(state.optimizer, "step", "optimizer"))
            stack.enter_context(watches.on(state.ema, "update", "ema"))
            # One step a window: the meter's time is then that of the watched steps alone.
            meter = self._fit(trainer, WatchedLoader(self.loader, watches), seconds, 1)
        steps, spent = state.step - before, watches.seconds
        # Backward contains the forward pass and the loss, the update contains the optimizer.
        parts = {name: spent[name] for name in ("data", "augment", "mixing", "forward")}
        parts["loss"] = spent["criterion"]
        parts["backward"] = spent["backward"] - spent["forward"] - spent["criterion"]
        parts["clip"] = spent["update"] - spent["optimizer"]
        parts["optimizer"], parts["ema"] = spent["optimizer"], spent["ema"]
        parts["rest"] = meter.spent - sum(parts.values())  # without what follows the last step
        return {name: time_ / steps for name, time_ in parts.items()}

    def work(self, precision: str) -> Work:
        """Return what one step needs at least."""
        # Uncompiled: a compiled model hides its operations.
        eager = replace(self.step, state=self.bare.state, forward=self.trainer.state.model)
        work = Work(DTYPES[precision].itemsize)
        with work:
            replace(self.bare, optimize=eager).train_step(self.ready)
        return work

    def _layer(self, work: Callable[[], int], seconds: float) -> Layer:
        reset_peak_memory(self.device)
        rates = windows(work, seconds, self.device)
        return Layer.of(rates, device_memory(self.device))

    def _fit(
        self,
        trainer: Trainer,
        loader: Loader,
        seconds: float,
        steps: int,
        competitor: Callable[[], int] | None = None,
    ) -> ThroughputMeter:
        """Train for about `seconds` in windows of `steps`, and return what timed it."""
        meter = ThroughputMeter(
            images=len(self.loader.samples),
            batch_size=self.batch.total,
            steps_per_epoch=trainer.intervals.steps_per_epoch,
            device=self.device,
            seconds=seconds,
            steps=steps,
            competitor=competitor,
            prefetched=self.loader.images_ahead if competitor is not None else 0,
        )
        replace(trainer, callbacks=[*trainer.callbacks, meter]).fit(loader)
        trainer.state.stop_reason = None  # the next run goes on from here
        return meter


@dataclass(frozen=True)
class WatchedLoader:
    """A loader whose batches are watched as `data`."""

    loader: TrainLoader
    watches: Watches

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return self.watches.each("data", self.loader.batches(epoch, start))
