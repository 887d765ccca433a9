"""Experiments on whole runs of the command line: kills, signals, two starters, no space."""

import copy
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from tests.faults.product import differences, fault_config, newest_step, result
from tests.harness import Command, places
from vtrain.engine.budget import TimeBudget
from vtrain.engine.state import TrainState
from vtrain.errors import VtrainError
from vtrain.files import atomic
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.files.store import CheckpointStore, verify
from vtrain.optim.gradients import LossScaler

Trials = Iterator[str | None]
"""For each trial None if all was as promised, else what was not."""


COMPLETE = ("train.precision=fp16", "train.max_minutes=0.3")
"""With `completing`, what makes a run have every item of the state: a scaler and a budget too."""


def fit(folder: Path, run_dir: Path, *more: object, **options: Any) -> Command:
    """Start or continue the tiny run in `run_dir`."""
    arguments = (fault_config(folder), "--run-dir", run_dir, "--resume", *more)
    return Command(folder, "fit", *arguments, **options)


def reference(folder: Path, *more: object, **options: Any) -> dict[str, Any]:
    """Run the tiny run without a disturbance and return its result."""
    folder.mkdir(parents=True, exist_ok=True)
    run_dir = folder / "reference"
    ended = fit(folder, run_dir, *more, **options).wait()
    assert ended.code == 0, ended.err
    return result(run_dir)


def saved(command: Command, run_dir: Path, step: int = 0) -> None:
    """Wait until a run has saved `step` or a later one, or has ended."""
    command.until(lambda: newest_step(run_dir) >= step)


def first(found: Iterator[str]) -> str | None:
    """Return the first of several findings."""
    return next(iter(found), None)


def damage_in(run_dir: Path) -> str | None:
    """Say which published checkpoint cannot be read."""
    if newest_step(run_dir) < 0:
        return None
    return first(str(found.problem) for found in verify(run_dir) if found.problem)


MOST_KILLS = 20
"""Of one run, so that 200 kills are spread over ten runs at least."""


def random_kills(folder: Path, draw: random.Random) -> Trials:
    """Kill runs at random moments until they are done; compare each with an undisturbed one.

    Each kill is a trial.
    """
    expected = reference(folder)
    number = 0
    while True:
        number += 1
        run_dir, kills, finished = folder / f"killed_{number}", 0, False
        while not finished:
            workers = draw.choice((("data.cache=ram",), ("data.cache=none", "data.num_workers=1")))
            command = fit(folder, run_dir, *workers)
            before = newest_step(run_dir)
            moment = draw.random()
            if moment < 0.7:  # soon after a new checkpoint is there, or while the next is made
                saved(command, run_dir, before + 1)
                pause = draw.uniform(0, 0.05)
            else:
                pause = draw.uniform(0, 0.5)
            time.sleep(pause)
            if kills == MOST_KILLS:
                command.wait()
            finished = not command.alive()
            command.kill()
            ended = command.wait()
            if finished and ended.code != 0:
                yield f"run {number} ended with {ended.code}: {ended.errors[-1:]}"
                break
            if not finished:
                kills += 1
                if found := damage_in(run_dir):
                    yield f"run {number}, kill {kills}: {found}"
        if not finished:
            continue
        found = first(differences(expected, result(run_dir)))
        if list(run_dir.glob(f"{atomic.PREFIX}*")):
            found = found or "temporary files are left"
        if found:
            yield f"run {number}: {found}"
        yield from [None] * kills
        shutil.rmtree(run_dir)


def forgetting(item: str) -> Callable[[], None]:
    """Return what makes a process forget one item of the state when it resumes."""

    def prepare() -> None:
        real = TrainState.load_state_dict

        def load(self: TrainState, state: dict[str, Any]) -> None:
            assert item in state
            real(self, {**state, item: copy.deepcopy(self.state_dict()[item])})

        TrainState.load_state_dict = load  # type: ignore[method-assign]

    return prepare


def dying_after(step: int) -> Callable[[], None]:
    """Return what makes a process kill itself once the checkpoint of `step` is saved."""

    def prepare() -> None:
        real = CheckpointStore.save

        def save(self: CheckpointStore, checkpoint: Checkpoint, *more: Any) -> Path:
            path = real(self, checkpoint, *more)
            if checkpoint.step >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            return path

        CheckpointStore.save = save  # type: ignore[method-assign]

    return prepare


def completing() -> None:
    """Let a CPU train in fp16, which overflows at first, and let the clock count the steps."""
    from vtrain.run.build import parts, resolve

    def scale(self: LossScaler, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**22)

    LossScaler.__init__ = scale  # type: ignore[method-assign]
    resolve.choose_precision = lambda name, device: name  # type: ignore[attr-defined]
    parts.TimeBudget = partial(TimeBudget, clock=count().__next__)  # type: ignore[attr-defined,misc]


def complete_reference(folder: Path) -> dict[str, Any]:
    """Return the result of a run that has every item of the state, without a disturbance."""
    return reference(folder, *COMPLETE, prepare=completing)


def interrupted(folder: Path, name: str, prepare: Callable[[], None]) -> dict[str, Any] | None:
    """Return the result of that run if it is killed three times; None if it does not end.

    It is killed within an epoch, between two, and between the last save and the end.
    """
    run_dir = folder / name
    for step in (8, 12, 18):
        dying = both(both(completing, dying_after(step)), prepare)
        killed = fit(folder, run_dir, *COMPLETE, prepare=dying).wait()
        if killed.code != 128 + signal.SIGKILL:
            return None
    ended = fit(folder, run_dir, *COMPLETE, prepare=both(completing, prepare)).wait()
    return result(run_dir) if ended.code == 0 else None


def is_noticed(folder: Path, item: str, expected: dict[str, Any]) -> bool:
    """Whether a run that forgets one item when it resumes ends otherwise than `expected`."""
    found = interrupted(folder, f"without_{item}", forgetting(item))
    return found is None or any(differences(expected, found))


def forgetful(folder: Path, draw: random.Random) -> Trials:
    """Forget each item of the state in turn, and nothing at first: the harness must notice."""
    expected = complete_reference(folder)
    found = interrupted(folder, "control", lambda: None)
    yield first(differences(expected, found))
    names = sorted(name.removeprefix("state.") for name in expected if name.startswith("state."))
    for name in draw.sample(names, len(names)):
        yield None if is_noticed(folder, name, expected) else f"{name} was forgotten unnoticed"


def both(one: Callable[[], None], other: Callable[[], None]) -> Callable[[], None]:
    """Return what does one thing and then the other."""

    def prepare() -> None:
        one()
        other()

    return prepare


def stops(folder: Path, draw: random.Random, number: int, ranks: int = 1) -> Trials:
    """Send a signal at a random moment; the run stops at a step that is saved, and goes on."""
    expected = reference(folder)
    trial = 0
    while True:
        trial += 1
        run_dir = folder / f"stopped_{trial}"
        commands = together(folder, run_dir, ranks)
        saved(commands[0], run_dir)
        time.sleep(draw.uniform(0, 0.3))
        for command in draw.sample(commands, draw.randint(1, ranks)):
            command.send(number)
        ended = [command.wait(30) for command in commands]
        codes = {end.code for end in ended}
        found = None
        if codes == {0}:  # it was done before the signal came
            trial -= 1
            shutil.rmtree(run_dir)
            continue
        if codes != {128 + number}:
            found = f"codes {codes}: {[end.err[-300:] for end in ended]}"
        else:
            found = checked(partial(exact_stop, run_dir, number))
        if found is None:
            codes = {command.wait().code for command in together(folder, run_dir, ranks)}
            same = expected if ranks == 1 else None
            found = None if codes == {0} else f"the resume ended with {codes}"
            if found is None and same is not None:
                found = first(differences(same, result(run_dir)))
        yield found and f"trial {trial}: {found}"
        shutil.rmtree(run_dir)


def exact_stop(run_dir: Path, number: int) -> str | None:
    """Say what is wrong with a run folder after a stop by a signal."""
    step = Checkpoint.load(run_dir / "last.pt").step
    status = RunFolder(run_dir).read_status()
    done = re.findall(r"after step (\d+)", status.get("reason", ""))
    if done != [str(step)]:
        return f"it stopped after step {done} and {step} is saved"
    if (status.get("state"), status.get("code")) != ("stopped", 128 + number):
        return f"status.json says {status}"
    return damage_in(run_dir)


def together(
    folder: Path,
    run_dir: Path,
    ranks: int,
    *more: object,
    prepare: Callable[[int], object] = lambda rank: None,
) -> list[Command]:
    """Start the processes of one run, as torchrun would; `prepare` is called with each rank."""
    if ranks == 1:
        return [fit(folder, run_dir, *more)]

    def prepared(rank: int, place: dict[str, str]) -> None:
        os.environ.update(place)
        prepare(rank)

    return [
        fit(folder, run_dir, *more, prepare=partial(prepared, rank, place))
        for rank, place in enumerate(places(ranks))
    ]


def storms(folder: Path, draw: random.Random) -> Trials:
    """Send many signals in a row: one stop, one line, every checkpoint intact."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    trial = 0
    while True:
        trial += 1
        run_dir = folder / f"storm_{trial}"
        command = fit(folder, run_dir)
        saved(command, run_dir)
        for _ in range(draw.randint(2, 30)):
            command.send(draw.choice(numbers))
            time.sleep(draw.choice((0, 0, 0.001, 0.01)))
        ended = command.wait(60)
        found = damage_in(run_dir)
        if ended.code not in (0, *(128 + number for number in numbers)):
            found = f"code {ended.code}"
        if "Traceback" in ended.err or len(ended.errors) > 1:
            found = ended.err
        yield found and f"trial {trial}: {found}"
        shutil.rmtree(run_dir)


def two_starters(folder: Path, starters: int = 2) -> Trials:
    """Start several commands in one folder at once: one runs, the others say who has it."""
    folder.mkdir(parents=True, exist_ok=True)
    trial = 0
    while True:
        trial += 1
        run_dir = folder / f"shared_{trial}"
        commands = [fit(folder, run_dir) for _ in range(starters)]
        ended = [command.wait() for command in commands]
        late = [end for end in ended if end.code == 0 and "already complete" in end.err]
        refused = [end for end in ended if end.code == 5 and "locked by pid" in end.err]
        others = [end for end in ended if end not in late and end not in refused]
        found = None
        if [end.code for end in others] != [0]:
            found = f"{[(end.code, end.err[-300:]) for end in others]}"
        yield found and f"trial {trial}: {found}"
        shutil.rmtree(run_dir)


def runs_without_space(folder: Path, draw: random.Random) -> Trials:
    """Run where files may not grow beyond a random size: exit 5, earlier checkpoints intact."""
    reference(folder)
    size = (folder / "reference" / "last.pt").stat().st_size
    trial = 0
    while True:
        trial += 1
        run_dir = folder / f"full_{trial}"
        command = fit(folder, run_dir)
        saved(command, run_dir, 4)
        command.kill()
        limit = draw.randrange(size)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        less = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, hard))
        ended = fit(folder, run_dir, prepare=less).wait()
        found = damage_in(run_dir)
        if ended.code != 5 or not any("no space" in line for line in ended.errors):
            found = f"code {ended.code}: {ended.err[-500:]}"
        if "Traceback" in ended.err:
            found = ended.err
        yield found and f"{limit} of {size} bytes: {found}"
        shutil.rmtree(run_dir)


def checked(check: Callable[[], str | None]) -> str | None:
    """Turn an error of vtrain in a check into a finding."""
    try:
        return check()
    except VtrainError as error:
        return str(error)
