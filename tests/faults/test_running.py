"""Whole runs that are killed, stopped, started twice or without space end as if they were not."""

import random
import resource
import signal
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.faults import running
from tests.faults.product import differences
from vtrain.engine.state import TrainState

STATE = [
    *("model", "optimizer", "ema", "loss", "step", "epoch", "epoch_step", "evaluated_step"),
    *("best", "metrics", "rows", "early_stopping", "scaler", "skipped", "budget"),
]
"""What a run must not forget."""


def failures(trials: Iterator[str | None], count: int) -> list[str]:
    return [found for found in islice(trials, count) if found]


def test_a_run_killed_at_random_ends_in_the_same_bits(tmp_path: Path) -> None:
    assert failures(running.random_kills(tmp_path, random.Random(0)), 2) == []


@pytest.mark.slow
def test_fifteen_random_kills_change_nothing(tmp_path: Path) -> None:
    assert failures(running.random_kills(tmp_path, random.Random(1)), 15) == []


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of a run that has every item of the state."""
    return running.complete_reference(tmp_path_factory.mktemp("expected"))


@pytest.mark.slow
def test_forgetting_nothing_is_not_noticed(tmp_path: Path, expected: dict[str, Any]) -> None:
    found = running.interrupted(tmp_path, "control", lambda: None)
    assert list(differences(expected, found)) == []


@pytest.mark.slow
@pytest.mark.parametrize("item", STATE)
def test_forgetting_any_item_of_the_state_would_be_noticed(
    tmp_path: Path, item: str, expected: dict[str, Any]
) -> None:
    assert running.is_noticed(tmp_path, item, expected)


def test_every_item_of_the_state_is_tried(expected: dict[str, Any]) -> None:
    names = {name.removeprefix("state.") for name in expected if name.startswith("state.")}
    assert names == set(STATE)
    assert names >= set(TrainState.COUNTERS)
    assert [name for name in names if expected[f"state.{name}"] is None] == []


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
        ),
    ],
)
def test_a_signal_stops_the_run_at_a_step_that_is_saved(tmp_path: Path, number: int) -> None:
    assert failures(running.stops(tmp_path, random.Random(0), number), 1) == []


@pytest.mark.dist
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_two_ranks_stop_at_the_same_step_whichever_gets_the_signal(
    tmp_path: Path, number: int
) -> None:
    assert failures(running.stops(tmp_path, random.Random(0), number, ranks=2), 3) == []


def test_a_storm_of_signals_is_one_stop(tmp_path: Path) -> None:
    assert failures(running.storms(tmp_path, random.Random(0)), 1) == []


def test_of_two_starters_in_one_folder_one_runs(tmp_path: Path) -> None:
    assert failures(running.two_starters(tmp_path), 1) == []


@pytest.mark.slow
def test_of_many_starters_in_one_folder_one_runs(tmp_path: Path) -> None:
    assert failures(running.two_starters(tmp_path, 20), 2) == []


def test_a_run_without_space_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    assert failures(running.runs_without_space(tmp_path, random.Random(0)), 1) == []


def test_a_full_log_does_not_hide_why_a_run_ended(tmp_path: Path) -> None:
    command = running.fit(tmp_path, tmp_path / "run")
    running.saved(command, tmp_path / "run", 4)
    command.kill()
    for size in (3000, 5000):  # vtrain.log is full, and no checkpoint fits
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        ended = running.fit(tmp_path, tmp_path / "run", prepare=limit).wait()
        assert ended.code == 5, ended.err
        assert "no space to write" in ended.errors[-1]
