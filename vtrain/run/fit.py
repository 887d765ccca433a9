"""`vtrain fit`: build the parts in order, train, and leave a complete run folder behind."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

import vtrain
from vtrain import distributed
from vtrain.callbacks.history import History
from vtrain.callbacks.metrics_file import MetricsFile
from vtrain.callbacks.peer_timeout import PeerTimeout
from vtrain.callbacks.progress import Progress
from vtrain.callbacks.saver import Saver
from vtrain.callbacks.stop_early import StopEarly
from vtrain.callbacks.stop_on_signal import StopOnSignal
from vtrain.callbacks.tensorboard import TensorBoard
from vtrain.config import Config, config_from_text
from vtrain.data.inspect.fingerprint import check_unchanged, dataset_fingerprint
from vtrain.data.loading.workers import naming_lost_workers
from vtrain.device import choose_device, naming_failures
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.stop import StopSignals
from vtrain.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    StoppedBySignal,
    StorageError,
    VtrainError,
)
from vtrain.files.atomic import make_folder, write_json, write_text
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.lock import RunLock
from vtrain.files.runs import (
    is_run_folder,
    new_run_folder,
    newest_run,
    read_facts,
    read_status,
    write_status,
)
from vtrain.files.store import CheckpointStore
from vtrain.run.build.batch_size import memory_advice, with_batch_size, with_number
from vtrain.run.build.model import describe_model
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.trainer import build_trainer
from vtrain.run.logs import logging_to
from vtrain.run.text import screens

log = logging.getLogger(__name__)
FREE_TO_CHANGE = (
    "logging",
    "checkpoint",
    "data.num_workers",
    "data.cache",
    "train.max_steps",
    "train.eval_batch_size",
    "train.accum_steps",
    "train.activation_checkpointing",
    "train.compile",
    "train.cuda_graph",
    "train.parallel",
)
"""Keys that may differ when a run goes on: they do not change its result, but for rounding."""


def fit(
    config: Config,
    name: str,
    run_dir: Path | None = None,
    resume: bool = False,
    accept_data_change: bool = False,
    signals: StopSignals | None = None,
) -> Path:
    """Train what the config describes and return the run's folder.

    Args:
        config: Complete and valid.
        name: The config's name, under which the run is kept.
        run_dir: The run's folder; by default `runs/<name>/<date_time>`.
        resume: Go on with the run in `run_dir`, or with the newest unfinished one of this name.
        accept_data_change: Go on also if the images are not those that the run began with.
        signals: What catches stop signals from the start of training on.

    Raises:
        VtrainError: The run cannot start, cannot go on, or was stopped by a signal.
    """
    place = distributed.rank_from_env()
    device = choose_device(config.train.device, place.local_rank)
    distributed.start(device)
    with ExitStack() as stack:
        stack.callback(distributed.stop)
        catch = partial(stack.enter_context, signals or StopSignals())
        folder, is_complete = _agreed_folder(name, run_dir, resume, stack)
        if is_complete:
            log.info("the run is already complete; see %s", folder / "summary.json")
        elif place.is_main:
            stack.enter_context(logging_to(folder / "vtrain.log"))
            _recorded(config, device, place, folder, catch, accept_data_change)
        else:
            _train(config, device, place, folder, catch, accept_data_change)
    return folder


@distributed.propagate_failures()
def _agreed_folder(
    name: str, run_dir: Path | None, resume: bool, stack: ExitStack
) -> tuple[Path, bool]:
    """Return the run's folder and whether the run is finished.

    The main process chooses the folder. Unless it is finished it locks it until `stack` is closed.
    """
    choice = None
    if distributed.is_main():
        folder = _folder(name, run_dir, resume)
        if not is_finished(folder):
            stack.enter_context(RunLock(folder))
        choice = [str(folder), is_finished(folder)]  # another command may just have finished it
    path, is_complete = distributed.broadcast_json(choice)
    return Path(path), is_complete


def is_finished(folder: Path) -> bool:
    """Return whether the run in this folder has made all its steps."""
    return bool(read_status(folder).get("state") == "finished")


def _folder(name: str, run_dir: Path | None, resume: bool) -> Path:
    """Choose the run's folder and make it."""
    if run_dir is None:
        unfinished = newest_run(finished=False, name=name) if resume else None
        if resume and unfinished is None:
            log.info("there is no unfinished run of %s: starting a new one", name)
        return unfinished or new_run_folder(name)
    make_folder(run_dir)
    if is_run_folder(run_dir) and not resume:
        raise StorageError(
            "the folder already holds a run", run_dir, "add --resume, or choose another --run-dir"
        )
    return run_dir


def _recorded(
    config: Config,
    device: torch.device,
    place: Rank,
    folder: Path,
    catch: Callable[[], StopSignals],
    accept_data_change: bool,
) -> None:
    """Train, and leave word in `status.json` however it ends."""
    write_status(folder, "running")
    try:
        _train(config, device, place, folder, catch, accept_data_change)
    except BaseException as error:
        log.debug("the run ended early", exc_info=True)
        state = "stopped" if isinstance(error, StoppedBySignal) else "failed"
        if isinstance(error, VtrainError):
            code = error.exit_code
        else:
            code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        write_status(folder, state, code=code, reason=str(error)[:500])
        raise


@distributed.propagate_failures()
def _train(
    config: Config,
    device: torch.device,
    place: Rank,
    folder: Path,
    catch: Callable[[], StopSignals],
    accept_data_change: bool,
) -> None:
    """Build every part, go on from a checkpoint if there is one, and train to the end.

    `catch` begins to catch stop signals; that ends after this: a lost process brings one to all
    the others.
    """
    versions = [vtrain.__version__, torch.__version__]
    distributed.check_same({"config": config.model_dump(mode="json"), "versions": versions})
    store = CheckpointStore(folder, config.checkpoint.keep) if place.is_main else None
    found = _newest(store)
    before = None if found is None else Checkpoint.load(found)
    config = _sized(config, before, found, device, place)
    parts = build_parts(config, device, place)
    dataset = dataset_fingerprint(parts.source.classes, parts.train, parts.val)
    distributed.check_same({"dataset": dataset}, DataError)
    if before is not None:
        _check_config(config, before, found)
        _restore(parts, dataset, before, found, accept_data_change)
    history = History(folder / "metrics.jsonl")
    stop = StopOnSignal(catch())
    callbacks: list[Callback] = [stop, StopEarly(), PeerTimeout()]
    if place.is_main:
        callbacks += outputs(config, parts, folder, history)
    if place.is_main or config.train.parallel == "fsdp":  # all have a part of a sharded model
        callbacks.append(build_saver(config, parts, dataset, store))
    if place.is_main:
        write_text(folder / "config.yaml", config.to_yaml())
        screens.say_start(config, parts, folder, found)
        environment = screens.environment(parts)
        if found is not None:
            screens.say_changes(read_facts(folder / "env.json"), environment)
        write_json(folder / "env.json", environment)
    started = time.monotonic()
    trainer = build_trainer(config, parts, place, callbacks)
    with naming_failures(*memory_advice(config, place)), naming_lost_workers():
        trainer.fit(parts.train_loader)
        received = stop.agree()  # one may have come since the last step
    seconds = time.monotonic() - started
    if received is not None:
        raise StoppedBySignal(
            f"stopped by {signal.Signals(received).name} after step {parts.state.step}, "
            f"which is saved; go on with --run-dir {folder} --resume",
            received,
        )
    if place.is_main:
        best_metric = config.checkpoint.best_metric
        write_json(folder / "summary.json", screens.summary(best_metric, parts, history, seconds))
        reason = parts.state.stop_reason
        write_status(folder, "finished", code=0, step=parts.state.step, reason=reason)
        screens.say_end(config, parts.state, folder, history, seconds)


def _newest(store: CheckpointStore | None) -> Path | None:
    """Return the checkpoint to go on from, which the main process alone looks for."""
    found = store.newest_valid() if store is not None else None
    path = distributed.broadcast_json(None if found is None else str(found))
    return None if path is None else Path(path)


def _sized(
    config: Config,
    before: Checkpoint | None,
    path: Path | None,
    device: torch.device,
    place: Rank,
) -> Config:
    """Replace `train.batch_size: auto`: by the run's number, or by the largest if it is new."""
    if before is None or config.train.batch_size != "auto":
        return with_batch_size(config, device, place, trial=True)
    size = _stored_config(before, path).train.batch_size
    assert size != "auto"
    return with_number(config, size)


def outputs(config: Config, parts: Parts, folder: Path, history: History) -> list[Callback]:
    """Return the callbacks of the main process: what a run writes and shows beside checkpoints."""
    outputs: list[Callback] = [
        history,
        MetricsFile(folder / "metrics.jsonl"),
        Progress(config.train.epochs, parts.steps_per_epoch, parts.total_steps, sys.stderr),
    ]
    if config.logging.tensorboard:
        picture = partial(parts.picture, config.logging.images)
        outputs.append(
            TensorBoard(folder / "tensorboard", picture if config.logging.images else None)
        )
    return outputs


def build_saver(
    config: Config, parts: Parts, dataset: dict[str, Any], store: CheckpointStore | None
) -> Saver:
    """Return what saves, to be called last: a checkpoint counts the rows that others wrote."""
    describe = partial(
        Checkpoint,
        model=describe_model(config, parts.model),
        classes=parts.source.classes,
        preprocess=parts.preprocess.to_dict(),
        dataset=dataset,
        config=config.to_yaml(),
    )
    checkpoint = config.checkpoint
    return Saver(
        store,
        describe,
        checkpoint.best_metric,
        checkpoint.every_minutes,
        checkpoint.every_steps,
        distributed.any_true if config.train.parallel == "fsdp" else bool,
    )


def _stored_config(checkpoint: Checkpoint, path: object) -> Config:
    """Return the config that a checkpoint holds.

    Raises:
        CheckpointError: It is not valid.
    """
    try:
        return config_from_text(checkpoint.config, "its config")
    except ConfigError as error:
        raise CheckpointError(f"the stored config is not valid: {error.what}", path) from None


def _check_config(config: Config, checkpoint: Checkpoint, path: object) -> None:
    """Refuse to go on with a config that has changed in a way that changes the result.

    Raises:
        ConfigError: It names the keys.
    """
    before = _stored_config(checkpoint, path)
    changed = [key for key in _differences(before, config) if not key.startswith(FREE_TO_CHANGE)]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise ConfigError(
            f"the run was started with other values of {', '.join(changed[:5])}{more}",
            path,
            "use the run's own config.yaml, or start a new run",
        )


def _restore(
    parts: Parts, dataset: dict[str, Any], checkpoint: Checkpoint, path: object, accept: bool
) -> None:
    """Go on from a checkpoint of the same run.

    Raises:
        DataError: The images have changed, and that is not accepted.
        CheckpointError: It holds no state of this run, but perhaps weights alone.
    """
    state = parts.state
    try:
        changed = check_unchanged(checkpoint.dataset, dataset, path, accept=accept)
        state.load_state_dict(checkpoint.state)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise CheckpointError(
            f"no run can go on from it ({reason})", path, "its weights may serve model.pretrained"
        ) from error
    if changed:  # with more or fewer images the same step is another place in an epoch
        state.epoch, state.epoch_step = divmod(state.step, parts.steps_per_epoch)


def _differences(before: Config, after: Config) -> list[str]:
    """Return the dotted keys of the sections' values that differ."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    keys: list[str] = []
    for section in new:
        if isinstance(new[section], dict):
            both = {**old[section], **new[section]}
            keys += [
                f"{section}.{key}" for key in both if old[section].get(key) != new[section].get(key)
            ]
        elif old[section] != new[section]:
            keys.append(section)
    return keys
