"""Random damage to input ends in success or in one of our errors."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.faults import fuzz


def failures(trials: Iterator[str | None], count: int) -> list[str]:
    return [found for found in islice(trials, count) if found]


def test_damaged_configs_are_mistakes_or_configs(tmp_path: Path) -> None:
    assert failures(fuzz.configs(tmp_path, random.Random(0)), 40) == []


@pytest.mark.slow
def test_hundreds_of_damaged_configs_are_mistakes_or_configs(tmp_path: Path) -> None:
    assert failures(fuzz.configs(tmp_path, random.Random(1)), 300) == []


@pytest.mark.slow
def test_damaged_configs_are_checked_without_a_traceback(tmp_path: Path) -> None:
    assert failures(fuzz.checked_configs(tmp_path, random.Random(0)), 25) == []


@pytest.mark.parametrize("image_format", fuzz.FORMATS)
def test_damaged_images_are_decoded_or_refused(image_format: str) -> None:
    assert failures(fuzz.images(random.Random(0), image_format), 300) == []


@pytest.mark.slow
@pytest.mark.parametrize("image_format", fuzz.FORMATS)
def test_thousands_of_damaged_images_are_decoded_or_refused(image_format: str) -> None:
    assert failures(fuzz.images(random.Random(1), image_format), 2000) == []


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    assert failures(fuzz.archives(tmp_path, random.Random(0)), 300) == []


def test_damaged_pickle_programs_crash_nothing(tmp_path: Path) -> None:
    assert failures(fuzz.programs(tmp_path, random.Random(0)), 100) == []
