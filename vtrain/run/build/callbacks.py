"""Build what happens beside a run's training, in the order in which the trainer calls it."""

import sys
from functools import partial
from typing import Any

from vtrain import distributed
from vtrain.callbacks.history import History, MetricsFile
from vtrain.callbacks.progress import Progress
from vtrain.callbacks.saver import Saver
from vtrain.callbacks.stopping import PeerTimeout, StopEarly, StopOnSignal
from vtrain.callbacks.tensorboard import TensorBoard
from vtrain.engine.callback import Callback
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.report.facts import flat
from vtrain.run.build.maps import ValidationMaps
from vtrain.run.build.model import describe_model
from vtrain.run.build.parts import Parts


def build_callbacks(
    parts: Parts,
    run: RunFolder,
    stop: StopOnSignal,
    history: History,
    dataset: dict[str, Any],
    store: CheckpointStore | None,
) -> list[Callback]:
    """Return the callbacks of this process; see `Callback` for what their order means.

    Args:
        parts: Of the run.
        run: Its folder, in which the main process alone writes.
        stop: Looks for stop signals.
        history: Remembers what the summary will say.
        dataset: The images' fingerprint.
        store: Where checkpoints are kept; None in a process that only hands over its part.
    """
    plan = parts.plan
    # These stop or watch the run, and every process needs them: all stop at the same step.
    callbacks: list[Callback] = [stop, StopEarly(), PeerTimeout()]
    if plan.rank.is_main:
        callbacks += build_outputs(parts, run, history)
    # Last, as it saves how many rows were written. Of a sharded model all have a part.
    if plan.rank.is_main or plan.config.train.parallel == "fsdp":
        callbacks.append(build_saver(parts, dataset, store))
    return callbacks


def build_outputs(parts: Parts, run: RunFolder, history: History) -> list[Callback]:
    """Return what the main process writes and shows beside checkpoints."""
    plan, config = parts.plan, parts.plan.config
    # The history first: it reads the rows of a resumed run, the file then cuts what is too much.
    outputs: list[Callback] = [
        history,
        MetricsFile(run.metrics),
        Progress(
            config.train.epochs,
            plan.steps_per_epoch,
            plan.total_steps,
            sys.stderr,
            num_classes=len(plan.source.classes),
            log_every=config.logging.every_steps,
        ),
    ]
    if config.logging.tensorboard:
        count = config.logging.images
        picture = partial(parts.picture, count) if count else None
        maps = (
            ValidationMaps(parts, config.logging.explain).draw if config.logging.explain else None
        )
        values = flat(config.model_dump(mode="json"))
        outputs.append(TensorBoard(run.tensorboard, picture, values, maps, parts.task.metrics))
    return outputs


def build_saver(parts: Parts, dataset: dict[str, Any], store: CheckpointStore | None) -> Saver:
    """Return what saves, to be called last: a checkpoint counts the rows that others wrote.

    `dataset` is the images' fingerprint; a process that only hands over its part has no store.
    """
    config = parts.plan.config
    # All that stays the same for the whole run; the saver adds metrics and state, the task what
    # the last evaluation fitted.
    describe = partial(
        Checkpoint,
        model=describe_model(config, parts.model),
        classes=parts.plan.source.classes,
        preprocess=parts.preprocess.to_dict(),
        dataset=dataset,
        config=config.to_yaml(),
    )
    return Saver(
        store,
        lambda **now: describe(thresholds=parts.task.thresholds, **now),
        parts.plan.best_metric,
        config.checkpoint.every_minutes,
        config.checkpoint.every_steps,
        # A save of a sharded model needs every process, so all must find it due in the same step.
        distributed.any_true if config.train.parallel == "fsdp" else bool,
    )
