"""`vtrain fit`: build the parts in order, train, and leave a complete run folder behind."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

import vtrain
from vtrain import distributed
from vtrain.callbacks.history import History
from vtrain.callbacks.stopping import StopOnSignal
from vtrain.config import Config
from vtrain.data.inspect.fingerprint import dataset_fingerprint
from vtrain.data.loading.workers import naming_lost_workers
from vtrain.data.progress import said_if_long
from vtrain.device import choose_device, naming_failures
from vtrain.distributed import Rank
from vtrain.engine.stop import StopSignals
from vtrain.errors import (
    DataError,
    DivergedError,
    StoppedBySignal,
    StorageError,
    VtrainError,
    WorkerError,
)
from vtrain.files.atomic import make_folder, write_json, write_text
from vtrain.files.lock import RunLock
from vtrain.files.runs import RUNS, Beginning, RunFolder
from vtrain.files.store import CheckpointStore
from vtrain.interrupt import held_back, undone_by_signal
from vtrain.registry import bind
from vtrain.run import advice, finished
from vtrain.run.beside_images import refuse_among_images
from vtrain.run.build.batch_size import memory_advice
from vtrain.run.build.callbacks import build_callbacks
from vtrain.run.build.data import build_source
from vtrain.run.build.maps import check_maps
from vtrain.run.build.parts import Parts, build_parts
from vtrain.run.build.resolve import check_watched, resolve
from vtrain.run.build.trainer import build_trainer
from vtrain.run.forecast import say_forecast
from vtrain.run.judgement import judge
from vtrain.run.logs import logging_to
from vtrain.run.request import Request
from vtrain.run.resume import ResumePoint, changes_text, find_resume_point
from vtrain.run.text import screens
from vtrain.run.text.command import resume_command

log = logging.getLogger(__name__)


def fit(
    request: Request, accept_data_change: bool = False, signals: StopSignals | None = None
) -> Path:
    """Train what is asked for and return the run's folder.

    With `accept_data_change` a run goes on also on other images than it began with. `signals`
    catches stop signals from the start of training on.

    Raises:
        VtrainError: The run cannot start, cannot go on, or was stopped by a signal.
    """
    config = request.config
    rank = distributed.rank_from_env()
    with said_if_long("waiting for the device, or for other processes"):
        device = choose_device(config.train.device, rank.local_rank)
        distributed.start(device)
    with ExitStack() as stack:
        stack.callback(distributed.stop)
        place, is_complete = _agreed_folder(request, stack)
        run = place.run
        if is_complete:
            return run.path
        # Signals are caught until the stack closes, beyond the end of `_train`: a lost process
        # brings one to all the others, who still have to say why they ended.
        catch = partial(stack.enter_context, signals or StopSignals())
        with _recorded(run, config) if rank.is_main else nullcontext():
            _train(request, device, rank, place, catch, accept_data_change)
    return run.path


@distributed.propagate_failures()
def _agreed_folder(request: Request, stack: ExitStack) -> tuple[Beginning, bool]:
    """Return the run's folder as it was and whether nothing is left to do there.

    The main process chooses the folder, and locks it until `stack` is closed. A finished run needs
    no lock.
    """
    choice, beginning = None, None
    if distributed.is_main():
        refuse_among_images(request.run_dir or RUNS, request.config)
        with held_back():  # until a signal takes the folder away again
            run, beginning = _choose_folder(request)
            is_complete = finished.is_complete(run, request)
            if not is_complete:
                stack.enter_context(RunLock(run.path))
                stack.enter_context(undone_by_signal(beginning.undo))
                stack.enter_context(beginning.undone_on_failure())
                # Again: while this one waited for the lock, another command may have finished it.
                is_complete = finished.is_complete(run, request)
        choice = [str(run.path), is_complete]
    path, is_complete = distributed.broadcast_json(choice)
    return beginning or Beginning(Path(path)), is_complete


def _choose_folder(request: Request) -> tuple[RunFolder, Beginning]:
    """Choose the run's folder and make it."""
    if request.run_dir is None:
        above = Beginning(RUNS / request.name)
        run = RunFolder.new(request.name)
        return run, above.with_folder(run.path)
    beginning = Beginning(request.run_dir)
    make_folder(request.run_dir)
    run = beginning.run
    if run.is_started and not request.resume:
        raise StorageError(
            "the folder already holds a run",
            run.path,
            "add --resume, or choose another --run-dir",
        )
    return run, beginning


@contextmanager
def _recorded(run: RunFolder, config: Config) -> Iterator[None]:
    """Keep a log of the block in the run folder, and record there how it ends unless it is done."""
    with logging_to(run.log), undone_by_signal(partial(_record_stop, run)):
        try:
            yield
        except BaseException as error:
            log.debug("the run ended early", exc_info=True)
            if isinstance(error, VtrainError) and run.last.exists():
                error.hint = advice.for_a_resume(error.hint, config)
                error.hint = advice.for_moved_data(error, config)
            state = "stopped" if isinstance(error, StoppedBySignal) else "failed"
            if isinstance(error, VtrainError):
                code = error.exit_code
            else:
                code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            # Not of a run that never began, nor of a finished one that cannot be made longer.
            if run.is_started and not run.is_finished:
                facts = {"diverged_at": error.step} if isinstance(error, DivergedError) else {}
                run.write_status(state, code=code, reason=str(error)[:500], **facts)
            raise


def _record_stop(run: RunFolder, number: int) -> None:
    """Record that a signal ended the run at once: before training, or a second Ctrl-C."""
    if run.is_started and not run.is_finished:
        reason = f"stopped at once by {signal.Signals(number).name}"
        run.write_status("stopped", code=128 + number, reason=reason)


@distributed.propagate_failures()
def _train(
    request: Request,
    device: torch.device,
    rank: Rank,
    place: Beginning,
    catch: Callable[[], StopSignals],
    accept_data_change: bool,
) -> None:
    """Build every part, go on from a checkpoint if there is one, and train to the end.

    Only the main process writes in the run's folder; `catch` begins to catch stop signals.
    """
    config, run = request.config, place.run
    # Before anything that waits for other processes: with other configs they would wait forever.
    versions = [vtrain.__version__, torch.__version__]
    distributed.check_same({"config": config.model_dump(mode="json"), "versions": versions})
    store = bind(CheckpointStore, config.checkpoint)(run.path) if rank.is_main else None
    start = find_resume_point(store)
    parts, dataset = _built(request, device, rank, start, accept_data_change)
    history = History(run.metrics)
    stop = StopOnSignal(catch())  # from here on a signal ends the run with a checkpoint
    callbacks = build_callbacks(parts, run, stop, history, dataset, store)
    if rank.is_main:
        # Only now that every part is built: a folder with a config counts as a started run.
        run.write_status("running")
        write_text(run.config, parts.plan.config.to_yaml())
        _announce(parts, run, start, request)
    started = time.monotonic()
    trainer = build_trainer(parts, callbacks)
    with (
        _over_before_a_step(place, parts) if start is None else start.blamed_for_divergence(parts),
        advice.after_a_failure(run, parts.plan.config, accept_data_change=accept_data_change)
        if rank.is_main
        else nullcontext(),
        naming_failures(*memory_advice(parts.plan)),
        naming_lost_workers(),
    ):
        trainer.fit(parts.train_loader)
        received = stop.agree()  # one may have come since the last step
    seconds = time.monotonic() - started
    if received is not None:
        raise _stopped(received, parts.state.step, run)
    if rank.is_main:
        _conclude(parts, run, history, seconds)


def _built(
    request: Request,
    device: torch.device,
    rank: Rank,
    start: ResumePoint | None,
    accept_data_change: bool,
) -> tuple[Parts, dict[str, Any]]:
    """Return every part in the state that the run starts from, and the images' fingerprint."""
    config, stored, run_data = request.config, None, None
    if start is not None:
        # A run that goes on keeps its batch size, whatever would fit today.
        stored, run_data = start.batch_size, start.checkpoint.dataset
        start.check_config(config)  # before any part: into others the state would not fit
        config = start.with_colours(config)
    source = build_source(config, run_data, request.listed)
    if start is None:
        check_maps(config)
    plan = resolve(config, device, rank, batch_size=stored, source=source)
    check_watched(plan)
    parts = build_parts(plan, pretrained=start is None)
    dataset = dataset_fingerprint(source.classes, plan.train, parts.val, source)
    distributed.check_same({"dataset": dataset}, DataError)
    if start is not None:
        start.restore(parts, dataset, source, accept_data_change=accept_data_change)
    return parts, dataset


@contextmanager
def _over_before_a_step(place: Beginning, parts: Parts) -> Iterator[None]:
    """Note that a new run failed over its images or workers, with no step to keep a folder for."""
    try:
        yield
    except (DataError, StorageError, WorkerError):
        place.is_over = parts.state.step == 0
        raise


def _stopped(received: int, step: int, run: RunFolder) -> StoppedBySignal:
    name = signal.Signals(received).name
    said = f"stopped by {name} after step {step}, which is saved"
    return StoppedBySignal(f"{said}; go on with: {resume_command(run.path)}", received)


def _announce(parts: Parts, run: RunFolder, start: ResumePoint | None, request: Request) -> None:
    """Say what is about to be trained, and record on what machine and after what commands."""
    screens.say_start(parts, run.path, None if start is None else start.path)
    environment = screens.environment(parts)
    if start is not None:
        screens.say_changed_keys(parts, changes_text(start.config, parts.plan.config))
        screens.say_changes(run.read_environment(), environment)
    record = {"name": request.name, "overridden": sorted(request.overridden)}
    write_json(run.environment, {**environment, **record})
    # Who has only a folder does not know yet how long such a thing takes.
    if request.listed is not None and start is None and distributed.world_size() == 1:
        say_forecast(parts)


def _conclude(parts: Parts, run: RunFolder, history: History, seconds: float) -> None:
    """Leave the summary behind, then the word that the run is finished, and say what to do next."""
    state, judged = parts.state, None
    write_json(run.summary, screens.summary(parts, history, seconds))
    # After the summary: whoever finds a finished run may read it.
    run.write_status("finished", code=0, step=state.step, reason=state.stop_reason)
    if parts.plan.rank.world_size == 1:  # else others would wait for this one
        judged = judge(parts, run)
    screens.say_end(parts, run, history, seconds, judged)
