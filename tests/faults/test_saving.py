"""A save that dies, fails or is damaged at every point leaves a run that goes on."""

import random
from itertools import islice
from pathlib import Path

import pytest

from tests.faults import saving, strace

needs_strace = pytest.mark.skipif(not strace.available(), reason="strace cannot trace here")


@needs_strace
def test_killed_at_a_renaming_or_a_removal_nothing_is_lost(tmp_path: Path) -> None:
    calls = ("rename", "renameat", "renameat2", "unlink", "unlinkat")
    trials = list(saving.killed_at_each_call(tmp_path, calls))
    assert len(trials) >= 6
    assert [found for found in trials if found] == []


@pytest.mark.slow
@needs_strace
def test_killed_at_any_system_call_nothing_is_lost(tmp_path: Path) -> None:
    trials = list(saving.killed_at_each_call(tmp_path))
    assert len(trials) >= 40
    assert [found for found in trials if found] == []


@pytest.mark.slow
@needs_strace
def test_whatever_call_fails_the_save_fails_with_one_line_or_succeeds(tmp_path: Path) -> None:
    errors = ("ENOSPC", "EDQUOT", "EIO")
    trials = list(saving.failed_at_each_call(tmp_path, errors))
    assert len(trials) >= 40
    assert [found for found in trials if found] == []


@pytest.mark.slow
@needs_strace
def test_a_signal_within_any_system_call_of_a_save_changes_nothing(tmp_path: Path) -> None:
    trials = list(saving.interrupted_at_each_call(tmp_path))
    assert len(trials) >= 40
    assert [found for found in trials if found] == []


def test_without_space_all_earlier_checkpoints_stay(tmp_path: Path) -> None:
    trials = islice(saving.without_space(tmp_path, random.Random(0)), 10)
    assert [found for found in trials if found] == []


@pytest.mark.slow
@pytest.mark.parametrize("with_manifest", [False, True])
def test_a_thousand_flipped_bits_are_found(tmp_path: Path, with_manifest: bool) -> None:
    flips = saving.flipped_bits(tmp_path, random.Random(0), with_manifest=with_manifest)
    assert [found for found in islice(flips, 1000) if found] == []


def test_a_truncated_newest_is_passed_over(tmp_path: Path) -> None:
    trials = islice(saving.truncations(tmp_path, random.Random(0)), 20)
    assert [found for found in trials if found] == []


@pytest.mark.slow
def test_fifty_sizes_of_a_full_disk_leave_all_earlier_checkpoints(tmp_path: Path) -> None:
    trials = islice(saving.without_space(tmp_path, random.Random(1)), 50)
    assert [found for found in trials if found] == []


@pytest.mark.slow
def test_five_hundred_truncations_are_found(tmp_path: Path) -> None:
    trials = islice(saving.truncations(tmp_path, random.Random(1)), 500)
    assert [found for found in trials if found] == []
