"""`vtrain fit`: build the parts in order, train, and leave a complete run folder behind."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch

import vtrain
from vtrain import distributed
from vtrain.callbacks.history import History
from vtrain.callbacks.stopping import StopOnSignal
from vtrain.config import Config
from vtrain.data.inspect.fingerprint import dataset_fingerprint
from vtrain.data.loading.workers import naming_lost_workers
from vtrain.device import choose_device, naming_failures
from vtrain.distributed import Rank
from vtrain.engine.stop import StopSignals
from vtrain.errors import DataError, StoppedBySignal, StorageError, VtrainError
from vtrain.files.atomic import make_folder, write_json, write_text
from vtrain.files.lock import RunLock
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.inference.loaded import load_model
from vtrain.inference.outputs import outputs_of
from vtrain.interrupt import undone_by_signal
from vtrain.registry import bind
from vtrain.run.build.batch_size import memory_advice
from vtrain.run.build.callbacks import build_callbacks
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer
from vtrain.run.logs import logging_to
from vtrain.run.predictions import keep, predictions_of
from vtrain.run.resume import ResumePoint, find_resume_point
from vtrain.run.text import screens

log = logging.getLogger(__name__)


def fit(
    config: Config,
    name: str,
    run_dir: Path | None = None,
    resume: bool = False,
    accept_data_change: bool = False,
    signals: StopSignals | None = None,
) -> Path:
    """Train what the config describes and return the run's folder, `runs/<name>/<date_time>`.

    `resume` goes on with the run in `run_dir`, or with the newest unfinished one of this name, and
    with `accept_data_change` also on other images than it began with. `signals` catches stop
    signals from the start of training on.

    Raises:
        VtrainError: The run cannot start, cannot go on, or was stopped by a signal.
    """
    rank = distributed.rank_from_env()
    device = choose_device(config.train.device, rank.local_rank)
    distributed.start(device)
    with ExitStack() as stack:
        stack.callback(distributed.stop)
        run, is_complete = _agreed_folder(name, run_dir, resume, stack)
        if is_complete:
            log.info("the run is already complete; see %s", run.summary)
            return run.path
        # Signals are caught until the stack closes, beyond the end of `_train`: a lost process
        # brings one to all the others, who still have to say why they ended.
        catch = partial(stack.enter_context, signals or StopSignals())
        with _recorded(run) if rank.is_main else nullcontext():
            _train(config, device, rank, run, catch, accept_data_change)
    return run.path


@distributed.propagate_failures()
def _agreed_folder(
    name: str, run_dir: Path | None, resume: bool, stack: ExitStack
) -> tuple[RunFolder, bool]:
    """Return the run's folder and whether the run is finished.

    The main process chooses the folder, and locks it until `stack` is closed. A finished run needs
    no lock.
    """
    choice = None
    if distributed.is_main():
        run = _choose_folder(name, run_dir, resume)
        if not run.is_finished:
            stack.enter_context(RunLock(run.path))
        # Asked again: while this one waited for the lock, another command may have finished it.
        choice = [str(run.path), run.is_finished]
    path, is_complete = distributed.broadcast_json(choice)
    return RunFolder(Path(path)), is_complete


def _choose_folder(name: str, run_dir: Path | None, resume: bool) -> RunFolder:
    """Choose the run's folder and make it."""
    if run_dir is None:
        unfinished = RunFolder.newest(finished=False, name=name) if resume else None
        if resume and unfinished is None:
            log.info("there is no unfinished run of %s: starting a new one", name)
        return unfinished or RunFolder.new(name)
    make_folder(run_dir)
    run = RunFolder(run_dir)
    if run.is_started and not resume:
        raise StorageError(
            "the folder already holds a run", run_dir, "add --resume, or choose another --run-dir"
        )
    return run


@contextmanager
def _recorded(run: RunFolder) -> Iterator[None]:
    """Keep a log of the block in the run folder, and record there how it ends unless it is done."""
    with logging_to(run.log), undone_by_signal(partial(_record_stop, run)):
        run.write_status("running")
        try:
            yield
        except BaseException as error:
            log.debug("the run ended early", exc_info=True)
            state = "stopped" if isinstance(error, StoppedBySignal) else "failed"
            if isinstance(error, VtrainError):
                code = error.exit_code
            else:
                code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            run.write_status(state, code=code, reason=str(error)[:500])
            raise


def _record_stop(run: RunFolder, number: int) -> None:
    """Record that a signal ended the run at once: before training, or a second Ctrl-C."""
    if not run.is_finished:
        reason = f"stopped at once by {signal.Signals(number).name}"
        run.write_status("stopped", code=128 + number, reason=reason)


@distributed.propagate_failures()
def _train(
    config: Config,
    device: torch.device,
    rank: Rank,
    run: RunFolder,
    catch: Callable[[], StopSignals],
    accept_data_change: bool,
) -> None:
    """Build every part, go on from a checkpoint if there is one, and train to the end.

    Only the main process writes in the folder of `run`; `catch` begins to catch stop signals.
    """
    # Before anything that waits for other processes: with other configs they would wait forever.
    versions = [vtrain.__version__, torch.__version__]
    distributed.check_same({"config": config.model_dump(mode="json"), "versions": versions})
    store = bind(CheckpointStore, config.checkpoint)(run.path) if rank.is_main else None
    start = find_resume_point(store)
    # A run that goes on keeps its batch size, whatever would fit today.
    stored = None if start is None else start.batch_size
    plan = resolve(config, device, rank, batch_size=stored)
    parts = build_parts(plan)
    dataset = dataset_fingerprint(plan.source.classes, plan.train, parts.val)
    distributed.check_same({"dataset": dataset}, DataError)
    if start is not None:
        start.check_config(plan.config)  # first: into other parts the state would not fit
        start.restore(parts, dataset, accept_data_change=accept_data_change)
    history = History(run.metrics)
    stop = StopOnSignal(catch())  # from here on a signal ends the run with a checkpoint
    callbacks = build_callbacks(parts, run, stop, history, dataset, store)
    if rank.is_main:
        # Only now that every part is built: a folder with a config counts as a started run.
        write_text(run.config, plan.config.to_yaml())
        _announce(parts, run, start)
    started = time.monotonic()
    trainer = build_trainer(parts, callbacks)
    with naming_failures(*memory_advice(plan)), naming_lost_workers():
        trainer.fit(parts.train_loader)
        received = stop.agree()  # one may have come since the last step
    seconds = time.monotonic() - started
    if received is not None:
        raise StoppedBySignal(
            f"stopped by {signal.Signals(received).name} after step {parts.state.step}, "
            f"which is saved; go on with --run-dir {run.path} --resume",
            received,
        )
    if rank.is_main:
        _conclude(parts, run, history, seconds)


def _announce(parts: Parts, run: RunFolder, start: ResumePoint | None) -> None:
    """Say what is about to be trained, and record on what machine."""
    screens.say_start(parts, run.path, None if start is None else start.path)
    environment = screens.environment(parts)
    if start is not None:
        screens.say_changes(run.read_environment(), environment)
    write_json(run.environment, environment)


def _conclude(parts: Parts, run: RunFolder, history: History, seconds: float) -> None:
    """Leave the summary behind, then the word that the run is finished, and say what to do next."""
    config, state = parts.plan.config, parts.state
    write_json(run.summary, screens.summary(parts, history, seconds))
    # After the summary: whoever finds a finished run may read it.
    run.write_status("finished", code=0, step=state.step, reason=state.stop_reason)
    if parts.plan.rank.world_size == 1:  # else others would wait for this one
        _keep_predictions(parts, run)
    screens.say_end(config, state, run.path, history, seconds)


def _keep_predictions(parts: Parts, run: RunFolder) -> None:
    """Leave behind what the best checkpoint says of the validation images; the run has no need."""
    hint = "`vtrain eval` writes them"
    try:
        with naming_failures("a second model for the predictions", hint):
            loaded = load_model(run.checkpoint, parts.plan.device)
            batches, normalise = parts.val_loader.batches(), parts.preprocess.normalise
            outputs = list(outputs_of(loaded.model, batches, normalise, parts.autocast))
            predictions = predictions_of(outputs, parts.val, loaded, "val")
    except VtrainError as error:  # too little memory, or a file that can no longer be read
        log.warning("there are no predictions; %s: %s", hint, error)
        return
    if predictions is not None:
        keep(predictions, run.path)
