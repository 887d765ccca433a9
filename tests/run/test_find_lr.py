"""The range test of the learning rate, and the schedule's curve as text."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.run import find_lr
from vtrain.run.check import HEIGHT, WIDTH, curve
from vtrain.run.find_lr import losses_at, range_plan


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_lr, "STEPS", 20)


def test_each_step_is_one_of_training_with_its_rate(small_run: Path, vtrain: Vtrain) -> None:
    constant = ("schedule={name: constant}", "optimizer.lr=0.003", "logging.every_steps=1")
    vtrain("fit", small_run, "--run-dir", "run", *constant)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    expected = [row["train/loss"] for row in rows if "train/loss" in row]
    found = losses_at([0.003] * 6, range_plan(load_config(small_run, ["train.max_minutes=1e-9"])))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("short")
def test_a_suggestion_and_its_picture_are_made_and_no_run(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("check", small_run, "--lr-find")
    assert done.code == 0
    assert done.out.startswith(("suggested: optimizer.lr=", "no suggestion: "))
    with Image.open("lr_find.png") as image:
        assert image.size == (840, 540)
    assert not Path("runs").exists()
    before = Path("lr_find.png").read_bytes()
    assert "see lr_find_2.png" in vtrain("check", small_run, "--lr-find").out
    assert Path("lr_find.png").read_bytes() == before


@pytest.mark.usefixtures("short")
def test_a_suggestion_is_in_the_unit_of_the_config(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_lr, "suggested_rate", lambda *_: 0.01)
    assert "optimizer.lr=0.01;" in vtrain("check", small_run, "--lr-find").out
    done = vtrain("check", small_run, "--lr-find", "optimizer.lr_base_size=256")
    assert "optimizer.lr=0.08;" in done.out  # 0.01 at batches of 32
    command = done.out.splitlines()[1].split()
    assert command[:2] == ["vtrain", "fit"]
    assert vtrain("check", *command[2:]).code == 0
    assert command[-2:] == ["optimizer.lr_base_size=256", "optimizer.lr=0.08"]


def test_a_test_that_diverges_ends_early(small_run: Path) -> None:
    losses = losses_at([1e30] * 20, range_plan(load_config(small_run)))
    assert 1 <= len(losses) < 20


def test_a_curve_shows_each_column_at_its_height() -> None:
    lines = curve(lambda step: step / 600, 601)
    assert len(lines) == HEIGHT + 1
    rows = [line[11:].ljust(WIDTH) for line in lines[:HEIGHT]]
    columns = ["".join(column) for column in zip(*rows, strict=True)]
    heights = [HEIGHT - 1 - column.index("*") for column in columns]
    assert heights == [round((HEIGHT - 1) * i / (WIDTH - 1)) for i in range(WIDTH)]
    assert lines[0].startswith("        1 |")
    assert lines[HEIGHT - 1].startswith("        0 |*")
    assert lines[-1].endswith("step 600")


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_short_run_or_a_rate_of_zero_has_a_curve_too(steps: int) -> None:
    assert sum(line.count("*") for line in curve(lambda _: 0.0, steps)) == steps


def test_check_draws_the_schedule(small_run: Path, vtrain: Vtrain) -> None:
    out = vtrain("check", small_run, "schedule={name: linear, warmup_steps: 2}").out
    assert re.search(r"^learning rate +at most 0\.001 \(adamw, linear\)$", out, re.M)
    # 1/3 and 2/3 of the rate, then the rate itself, then a third less at each step.
    drawn = [line[11:] for line in out.splitlines() if line[10:11] == "|"]
    assert drawn == ["  *", "", " * *", "", "", "*   *", "", "     *"]
