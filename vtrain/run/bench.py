"""`vtrain bench`: how fast a config trains, what it could reach here, and where the time goes.

What is timed is the run itself: its parts, its loader, its trainer and its callbacks, in a run
folder that is thrown away. Only the learning rate is 0, so that nothing changes meanwhile.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vtrain.bench.machine import (
    Neighbours,
    describe_machine,
    family_seconds,
    probe,
    process_age,
    wait,
)
from vtrain.bench.stats import Ratio, Summary, paired_ratio, summarise
from vtrain.bench.timing import Watches, rate, timed, windows
from vtrain.bench.trace import slowest_kernels
from vtrain.bench.work import Work, bytes_per_number
from vtrain.callbacks.history import History
from vtrain.config import Config
from vtrain.data.input import no_augmentation
from vtrain.data.loading.loader import Batch, TrainLoader
from vtrain.device import DTYPES, choose_device, peak_memory
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.state import Meter, TrainState
from vtrain.engine.step import OptimizerStep
from vtrain.engine.step_graph import WARM_UP
from vtrain.engine.trainer import Trainer
from vtrain.files.atomic import make_folder
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.inference.evaluate import evaluate
from vtrain.models.profile import count_macs, count_parameters
from vtrain.run.build.batch_size import with_batch_size
from vtrain.run.build.callbacks import build_outputs, build_saver
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.plan import batch_size
from vtrain.run.build.trainer import build_optimize, build_step, build_trainer

TURNS = 15
"""Windows of the whole run and of the bare step, at least: the interval of a ratio needs more."""
LONGEST = 1.0
"""Seconds of such a window at most, but a step at least: a machine's speed changes quickly."""
KERNELS = 5
"""How many kernels a profile names."""
GOOD = 0.95
"""End to end over bare step from which on the data path needs no attention."""


@dataclass(frozen=True)
class Layer:
    """One of the things that are timed."""

    images_per_second: Summary
    windows: list[float]
    """Images per second of each window."""
    peak_memory: int | None
    """Bytes on the device; on a CPU only the process as a whole has a peak."""

    @classmethod
    def of(cls, rates: list[float], peak_memory: int | None) -> "Layer":
        """Return the layer whose windows had these rates."""
        return cls(summarise(rates), rates, peak_memory)

    @property
    def rate(self) -> float:
        """Images per second, the median."""
        return self.images_per_second.median


@dataclass(frozen=True)
class Report:
    """What was measured. Times are in seconds, memory in bytes."""

    machine: dict[str, Any]
    work: dict[str, Any]
    """What is trained, and what one image needs."""
    cold: dict[str, float]
    """How long each part of the start took, once."""
    limit: dict[str, float]
    """The machine's best rates, and the images per second that they would allow."""
    layers: dict[str, Layer]
    end_to_end: Ratio
    """How fast the whole run is beside its bare step, from windows that took turns."""
    noise: float
    """Median relative difference of the bare step's windows that followed each other."""
    split: dict[str, float]
    """Time of each part of a step of the whole run; their sum is that step."""
    kernels: list[dict[str, Any]]
    """The slowest kernels, if a profile was asked for."""
    peak_memory: int
    others_share: float | None
    """Part of the processors that other processes used meanwhile; None: unknown."""
    next: str
    """What holds the run back most."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def bench(config: Config, seconds: float = 10.0, trace: Path | None = None) -> Report:
    """Measure a config on this machine.

    Args:
        config: Complete and valid.
        seconds: Time for each layer, about.
        trace: Folder for a trace of a few steps, which also names the slowest kernels.

    Raises:
        VtrainError: The config's parts cannot be built, or the device is absent.
    """
    cold = {"import": process_age()}
    neighbours = Neighbours(family_seconds)
    with TemporaryDirectory(prefix="vtrain_bench_") as folder:
        subject = Subject.build(config, Path(folder), cold)
        layers = subject.layers(seconds)
        split = subject.split(seconds / 2)
        work = subject.work()
        kernels = [] if trace is None else subject.profile(trace)
        subject.close()
    device = subject.parts.device
    memory = peak_memory(device)  # before the probe, which needs some of its own
    rates = probe(device, DTYPES[subject.parts.precision])
    limit = len(subject.batch.images) / work.seconds(rates)
    bare, run = layers["bare step"].windows, layers["end to end"].windows
    ratio = paired_ratio(run, bare)
    return Report(
        machine=describe_machine(device),
        work=subject.describe(config, work),
        cold=cold,
        limit={**asdict(rates), "images_per_second": limit},
        layers=layers,
        end_to_end=ratio,
        noise=statistics.median(abs(b / a - 1) for a, b in pairwise(bare)),
        split=split,
        kernels=kernels,
        peak_memory=memory,
        others_share=neighbours.share(),
        next=advice(layers, ratio.median, limit, split),
    )


class Pace(Callback):
    """Times windows of a run, each followed by one of `rival`, and ends it when there are enough.

    What slows the machine for longer than two windows slows both, so that their ratio stands.
    """

    def __init__(self, images: int, batch_size: int, steps_per_epoch: int) -> None:
        self.images, self.batch_size, self.steps_per_epoch = images, batch_size, steps_per_epoch
        self.device = torch.device("cpu")
        self.begin(0.0, 1)

    def begin(
        self, seconds: float, steps: int, rival: Callable[[], int] | None = None, ahead: int = 0
    ) -> None:
        """Prepare for a run of about `seconds` in windows of `steps`, an epoch at most.

        Args:
            seconds: Time for all windows, without those of `rival`.
            steps: Steps of a window.
            rival: Does as much as a step, and returns how many images it was.
            ahead: Images that the loader may prepare meanwhile. They are a present to the run: the
                steps that consume them are not counted.
        """
        self.rates: list[float] = []
        self.rival_rates: list[float] = []
        self.steps, self.rival = min(steps, self.steps_per_epoch), rival
        self.settle = 1 + math.ceil(ahead / self.batch_size)
        self.seconds = seconds
        self.spent = 0.0
        """Seconds of the windows so far, of the first and uncounted one too."""
        self.skip = 0
        self.warm = False

    def on_fit_start(self, state: TrainState) -> None:
        self._restart(state)

    def on_step_end(self, state: TrainState) -> None:
        if self.skip:
            self.skip -= 1
            self._restart(state)
            return
        if self._position(state) - self.first < self.steps:
            return
        wait(self.device)
        spent = time.perf_counter() - self.since
        self.spent += spent
        if self.warm:
            self.rates.append((self._images(state) - self.images_before) / spent)
            if self.rival is not None:
                self.rival_rates.append(rate(self.rival, self.steps, self.device))
                self.skip = self.settle
        self.warm = True  # the first window has the start of the loader in it
        if self.spent > self.seconds and len(self.rates) >= TURNS:
            state.stop_reason = "everything is measured"
        self._restart(state)

    def on_epoch_end(self, state: TrainState) -> None:
        self._restart(state)  # what happens between epochs is not part of a step

    def _restart(self, state: TrainState) -> None:
        wait(self.device)
        self.first, self.images_before = self._position(state), self._images(state)
        self.since = time.perf_counter()

    def _position(self, state: TrainState) -> int:
        return state.epoch * self.steps_per_epoch + state.epoch_step

    def _images(self, state: TrainState) -> int:
        """Return the images of the run so far; an epoch's last batch may be smaller."""
        return state.epoch * self.images + min(state.epoch_step * self.batch_size, self.images)


@dataclass
class Subject:
    """What is measured: a run that is ready to train."""

    parts: Parts
    trainer: Trainer
    pace: Pace
    batch: Batch
    """A batch as the loader gives it."""
    step: OptimizerStep
    """The trainer's step as it is launched, whatever may record it."""
    bare: Trainer
    """The trainer without augmentation, with a position and a recording of its own."""
    warm_up: int
    """Steps until a recording of the bare step is replayed."""
    ready: Batch = field(init=False)
    """The same batch, augmented and mixed."""

    def __post_init__(self) -> None:
        images, targets = self.parts.input(self.batch, step=0, epoch=0)
        self.ready = replace(self.batch, images=images, targets=targets)

    @classmethod
    def build(cls, config: Config, folder: Path, cold: dict[str, float]) -> "Subject":
        """Build a run and make its first step.

        Args:
            config: Complete and valid.
            folder: The run's folder.
            cold: Gets how long each part of that takes, in seconds.

        Raises:
            VtrainError: A part cannot be built, or the device is absent.
        """
        # The time of a run is not over while it is measured.
        train = config.train.model_copy(update={"max_minutes": None})
        config = config.model_copy(update={"train": train})
        device = choose_device(config.train.device)
        config = with_batch_size(config, device, Rank(), trial=True)
        with timed(cold, "parts"):
            parts = build_parts(config, device, Rank())
        pace = Pace(len(parts.train), batch_size(config), parts.steps_per_epoch)
        pace.device = device
        callbacks = [*run_callbacks(config, parts, folder), pace]
        step = build_step(config, parts)
        trainer = build_trainer(config, parts, Rank(), callbacks, step)
        # Training has no end, and evaluation is timed by itself.
        endless = replace(trainer.intervals, total_steps=sys.maxsize, eval_every=sys.maxsize)
        trainer = replace(trainer, lr=0.0, intervals=endless)
        state = replace(parts.state, loss=Meter())
        bare = replace(
            trainer,
            state=state,
            input=no_augmentation,
            optimize=build_optimize(config, parts, Rank(), replace(step, state=state)),
        )
        with timed(cold, "first batch"):
            batch = next(iter(parts.train_loader.batches(0)))
        with timed(cold, "first step"):
            trainer.train_step(batch)
            wait(device)
        warm_up = WARM_UP + 1 if config.train.cuda_graph else 0
        return cls(parts, trainer, pace, batch, step, bare, warm_up)

    def close(self) -> None:
        """End the loaders' processes."""
        self.parts.train_loader.close()
        self.parts.val_loader.close()

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
        loader, device, bare = self.parts.train_loader, self.parts.device, self.bare_step()

        def pause() -> int:
            images = bare()
            self.trainer.clock.restart()  # the run's own log leaves the pause out
            return images

        reset_peak_memory(device)
        about = rate(bare, 1, device)
        bare_memory = device_memory(device)
        reset_peak_memory(device)
        window = min(seconds / TURNS, LONGEST)
        steps = max(1, round(window * about / len(self.batch.images)))
        self._fit(self.trainer, loader, seconds, steps, pause, loader.images_ahead)
        return (
            Layer.of(self.pace.rival_rates, bare_memory),
            Layer.of(self.pace.rates, device_memory(device)),
        )

    def bare_step(self) -> Callable[[], int]:
        """Return what makes a step on a batch that lies on the device, augmented and mixed."""

        def step() -> int:
            self.bare.train_step(self.ready)
            return len(self.ready.images)

        for _ in range(self.warm_up):
            step()
        return step

    def data_step(self) -> Callable[[], int]:
        """Return what fetches, augments and mixes the next batch, epoch after epoch."""
        batches = self._prepared()
        return lambda: next(batches)

    def evaluation_step(self) -> Callable[[], int]:
        """Return what evaluates one batch that lies on the device."""
        batch = next(iter(self.parts.val_loader.batches()))
        normalise, context = self.parts.preprocess.normalise, self.parts.autocast

        def step() -> int:
            evaluate(self.parts.model, [batch], normalise, context, lambda totals: totals)
            return len(batch.images)

        return step

    def split(self, seconds: float) -> dict[str, float]:
        """Return the time of each part of a step; on a GPU the parts are waited for one by one."""
        watches = Watches(self.parts.device)
        trainer, state = replace(self.trainer, optimize=self.step), self.parts.state
        loader = WatchedLoader(self.parts.train_loader, watches)
        first = state.step
        with ExitStack() as stack:
            for name in ("augment", "mixing"):
                for method in ("draw", "apply"):
                    owner = getattr(self.parts.input, name)
                    stack.enter_context(watches.on(owner, method, name))
            for method in ("forward", "criterion", "backward", "update"):
                stack.enter_context(watches.on(self.step, method, method))
            stack.enter_context(watches.on(state.optimizer, "step", "optimizer"))
            stack.enter_context(watches.on(state.ema, "update", "ema"))
            self._fit(trainer, loader, seconds, 1)
        steps, spent = state.step - first, watches.seconds
        parts = {name: spent[name] for name in ("data", "augment", "mixing", "forward")}
        parts["loss"] = spent["criterion"]
        parts["backward"] = spent["backward"] - spent["forward"] - spent["criterion"]
        parts["clip"] = spent["update"] - spent["optimizer"]
        parts["optimizer"], parts["ema"] = spent["optimizer"], spent["ema"]
        parts["rest"] = self.pace.spent - sum(parts.values())  # without what follows the last step
        return {name: time_ / steps for name, time_ in parts.items()}

    def work(self) -> Work:
        """Return what one step needs at least."""
        step = replace(self.step, state=self.bare.state, forward=self.parts.model)
        eager = replace(self.bare, optimize=step)
        work = Work(bytes_per_number(self.parts.precision))
        with work:
            eager.train_step(self.ready)
        return work

    def profile(self, folder: Path) -> list[dict[str, Any]]:
        """Write a trace of a few bare steps and return the slowest kernels."""
        make_folder(folder)
        path = folder / "trace.json"
        return slowest_kernels(self.bare_step(), self.parts.device, path, KERNELS)

    def describe(self, config: Config, work: Work) -> dict[str, Any]:
        """Return what is trained, and what one image of it needs."""
        images = len(self.ready.images)
        return {
            "model": config.model.name,
            "image_size": self.parts.preprocess.image_size,
            "batch_size": images,
            "precision": self.parts.precision,
            "parameters": count_parameters(self.parts.model),
            "model_flops_per_image": 6 * count_macs(self.parts.model),
            "flops_per_image": work.flops / images,
            "bytes_per_image": work.bytes / images,
        }

    def _prepared(self) -> Iterator[int]:
        for epoch in count():
            for step, batch in enumerate(self.parts.train_loader.batches(epoch)):
                images, _ = self.parts.input(batch, step, epoch)
                yield len(images)

    def _layer(self, work: Callable[[], int], seconds: float) -> Layer:
        reset_peak_memory(self.parts.device)
        rates = windows(work, seconds, self.parts.device)
        return Layer.of(rates, device_memory(self.parts.device))

    def _fit(
        self,
        trainer: Trainer,
        loader: "TrainLoader | WatchedLoader",
        seconds: float,
        steps: int,
        rival: Callable[[], int] | None = None,
        ahead: int = 0,
    ) -> None:
        self.pace.begin(seconds, steps, rival, ahead)
        trainer.fit(loader)
        self.parts.state.stop_reason = None


@dataclass(frozen=True)
class WatchedLoader:
    """A loader whose batches are watched as `data`."""

    loader: TrainLoader
    watches: Watches

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return self.watches.each("data", self.loader.batches(epoch, start))


def run_callbacks(config: Config, parts: Parts, folder: Path) -> list[Callback]:
    """Return all that a run writes and shows, for a run folder that nobody goes on with."""
    run = RunFolder(folder)
    saver = build_saver(config, parts, {}, CheckpointStore(folder))
    return [*build_outputs(config, parts, run, History(run.metrics)), saver]


def advice(
    layers: dict[str, Layer], end_to_end: float, limit: float, split: dict[str, float]
) -> str:
    """Say in a line what holds the run back most; `end_to_end` is its share of the bare step."""
    bare, data = layers["bare step"].rate, layers["data only"].rate
    if end_to_end < GOOD:
        if data < bare:
            return (
                f"the data path gives {data:.0f} images/s and the model could take {bare:.0f}: "
                "raise data.num_workers, or keep the images in memory with data.cache"
            )
        around = {name: split[name] for name in ("data", "augment", "mixing", "rest")}
        worst = max(around, key=lambda name: around[name])
        return (
            f"end to end is {end_to_end:.0%} of the bare step; of what is around it, '{worst}' "
            f"takes most: {around[worst] / sum(split.values()):.0%} of the time"
        )
    slowest = max(split, key=lambda name: split[name])
    return (
        f"the step itself, of which '{slowest}' is {split[slowest] / sum(split.values()):.0%}; its "
        f"kernels alone would need {bare / limit:.0%} of its time (--profile names the slowest)"
    )


def device_memory(device: torch.device) -> int | None:
    """Return the most memory on a GPU since the last reset."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset_peak_memory(device: torch.device) -> None:
    """Begin to look for the most memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
