"""`vtrain bench`: how fast a config trains, what it could reach here, and where the time goes.

What is timed is the run itself: its parts, its loader, its trainer and its callbacks, in a run
folder that is thrown away. Only the learning rate is 0, so that nothing changes meanwhile.
"""

import logging
import shutil
import statistics
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vtrain.bench.harness import Harness
from vtrain.bench.machine import (
    OtherLoad,
    describe_machine,
    probe,
    process_age,
    wait,
)
from vtrain.bench.report import Report, advice
from vtrain.bench.stats import paired_ratio
from vtrain.bench.timing import timed
from vtrain.bench.trace import slowest_kernels
from vtrain.bench.work import Work
from vtrain.callbacks.history import History
from vtrain.callbacks.progress import clock
from vtrain.config import Config
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.input import no_augmentation
from vtrain.device import DTYPES, peak_memory
from vtrain.engine.callback import Callback
from vtrain.engine.step_graph import WARM_UP
from vtrain.files.atomic import make_folder
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.interrupt import undone_by_signal
from vtrain.models.profile import count_macs, count_parameters
from vtrain.resources import own_seconds
from vtrain.run.build.callbacks import build_outputs, build_saver
from vtrain.run.build.data import build_source
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_optimize, build_step, build_trainer

log = logging.getLogger(__name__)

PARTS = 3.5
"""Times that are spent: one for bare steps and one for the run, half of one for three others."""
TOP_KERNELS = 5
"""How many kernels a profile names."""


def bench(
    config: Config,
    seconds: float = 10.0,
    trace: Path | None = None,
    listed: ImageFolder | None = None,
) -> Report:
    """Measure a config on this machine, each layer for about `seconds`.

    `trace` is a folder for a trace of a few steps, which also names the slowest kernels. `listed`
    is the folder of images that the config was made for.

    Raises:
        VtrainError: The config's parts cannot be built, or the device is absent.
    """
    cold = {"import": process_age()}
    others = OtherLoad(own_seconds)
    log.info("measuring for about %s", clock(PARTS * seconds))
    with (
        TemporaryDirectory(prefix="vtrain_bench_") as folder,
        undone_by_signal(lambda _: shutil.rmtree(folder, ignore_errors=True)),
    ):
        parts, harness = build_harness(config, Path(folder), cold, listed)
        layers = harness.layers(seconds)
        split = harness.split(seconds / 2)
        work = harness.work(parts.plan.precision)
        kernels = []
        if trace is not None:
            make_folder(trace)
            path, step = trace / "trace.json", harness.bare_step()
            kernels = slowest_kernels(step, harness.device, path, TOP_KERNELS)
        harness.close()
    memory = peak_memory(parts.plan.device)  # before the probe, which needs some of its own
    rates = probe(parts.plan.device, DTYPES[parts.plan.precision])
    limit = len(harness.batch.images) / work.seconds(rates)
    # Pairs of windows that followed each other; see `paired_ratio`.
    bare, run = layers["bare step"].windows, layers["end to end"].windows
    ratio = paired_ratio(run, bare)
    return Report(
        machine=describe_machine(parts.plan.device),
        work=describe(config, parts, len(harness.batch.images), work),
        cold=cold,
        limit={**asdict(rates), "images_per_second": limit},
        layers=layers,
        end_to_end=ratio,
        noise=statistics.median(abs(b / a - 1) for a, b in pairwise(bare)),
        split=split,
        kernels=kernels,
        peak_memory=memory,
        others_share=others.share(),
        next=advice(layers, ratio.median, limit, split),
    )


def build_harness(
    config: Config, folder: Path, cold: dict[str, float], listed: ImageFolder | None = None
) -> tuple[Parts, Harness]:
    """Build a run as `vtrain fit` does, and make its first step.

    `cold` gets how long each part of that takes, in seconds.

    Raises:
        VtrainError: A part cannot be built, or the device is absent.
    """
    # The time of a run is not over while it is measured.
    train = config.train.model_copy(update={"max_minutes": None})
    config = config.model_copy(update={"train": train})
    with timed(cold, "parts"):
        parts = build_parts(resolve(config, source=build_source(config, listed=listed)))
    step = build_step(parts)
    trainer = build_trainer(parts, run_callbacks(parts, folder), step)
    # Training has no end, and evaluation is timed by itself.
    endless = replace(trainer.intervals, total_steps=sys.maxsize, eval_every=sys.maxsize)
    trainer = replace(trainer, lr=0.0, intervals=endless)
    # The bare step has a position of its own and shares model and optimizer.
    state = parts.state.apart()
    optimize = build_optimize(parts, replace(step, state=state))
    bare = replace(trainer, state=state, input=no_augmentation, optimize=optimize)
    # In the order of a run's start, so that each part's time is what a user waits for it.
    with timed(cold, "first batch"):
        batch = next(iter(parts.train_loader.batches(0)))
    with timed(cold, "first step"):  # it compiles, where that is asked for
        trainer.train_step(batch)
        wait(parts.plan.device)
    harness = Harness(
        trainer=trainer,
        bare=bare,
        step=step,
        input=parts.input,
        loader=parts.train_loader,
        val_loader=parts.val_loader,
        normalise=parts.preprocess.normalise,
        task=parts.task,
        batch=batch,
        warm_up=WARM_UP + 1 if config.train.cuda_graph else 0,
    )
    return parts, harness


def run_callbacks(parts: Parts, folder: Path) -> list[Callback]:
    """Return all that a run writes and shows, for a run folder that nobody goes on with."""
    run = RunFolder(folder)
    saver = build_saver(parts, {}, CheckpointStore(folder))
    return [*build_outputs(parts, run, History(run.metrics)), saver]


def describe(config: Config, parts: Parts, batch_size: int, work: Work) -> dict[str, Any]:
    """Return what is trained, and what one image of it needs."""
    return {
        "model": config.model.name,
        "image_size": parts.preprocess.image_size,
        "batch_size": batch_size,
        "precision": parts.plan.precision,
        "parameters": count_parameters(parts.model),
        "model_flops_per_image": 6 * count_macs(parts.model),
        "flops_per_image": work.flops / batch_size,
        "bytes_per_image": work.bytes / batch_size,
    }
