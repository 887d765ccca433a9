"""Whole runs in several processes: the result of one process, and how they fail together."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.base_configs import UNEVEN_RUN
from tests.harness import Command, Result, places

pytestmark = pytest.mark.dist


def fit(folder: Path, run: str, *overrides: str, processes: int = 1) -> None:
    """Run `vtrain fit` to its end, in one process or in several."""
    arguments = ("fit", "config.yaml", "--run-dir", run, "--resume", *overrides)
    where: list[dict[str, str]] = places(processes) if processes > 1 else [{}]
    commands = [Command(folder, *arguments, prepare=partial(os.environ.update, w)) for w in where]
    with ending(commands):
        ended = [command.wait(200) for command in commands]
    assert [end.code for end in ended] == [0] * processes, [end.err for end in ended]
    assert sum(end.err.count("done in") for end in ended) == 1  # only one process speaks


@contextmanager
def ending(commands: list[Command]) -> Iterator[None]:
    """Leave none of the commands behind."""
    try:
        yield
    finally:
        for command in commands:
            command.kill()


def state(folder: Path, run: str, name: str = "last.pt") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / run / name, weights_only=True)["state"]
    return content


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of one process, and of two that hold whole models, or parts."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "config.yaml").write_text(UNEVEN_RUN)
    fit(folder, "one")
    fit(folder, "ddp", processes=2)
    fit(folder, "fsdp", "train.parallel=fsdp", processes=2)
    return folder


def assert_same_run(folder: Path, run: str) -> None:
    got, expected = state(folder, run), state(folder, "one")
    assert got["step"] == expected["step"] == 21
    for found, wanted in (
        (got["model"], expected["model"]),
        (got["ema"]["weights"], expected["ema"]["weights"]),
    ):
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_two_processes_give_the_weights_and_the_average_of_one(runs: Path, run: str) -> None:
    assert_same_run(runs, run)


@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_two_processes_write_the_metrics_of_one(runs: Path, run: str) -> None:
    def rows(run: str) -> list[dict[str, float]]:
        lines = (runs / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    for got, expected in zip(rows(run), rows("one"), strict=True):
        assert got.keys() == expected.keys()
        for name in expected.keys() - {"train/images_per_second"}:
            exact = name.startswith("val/top") or name in ("step", "epoch")
            assert got[name] == pytest.approx(expected[name], rel=0 if exact else 1e-5), name


@pytest.mark.parametrize(("first", "processes"), [("one", 2), ("fsdp", 1), ("ddp", 2)])
def test_a_run_goes_on_with_another_number_of_processes_or_kind(
    runs: Path, tmp_path: Path, first: str, processes: int
) -> None:
    """A checkpoint of one process, or of several, is plain: it does not say who made it."""
    (tmp_path / "config.yaml").write_text(UNEVEN_RUN)
    (tmp_path / "again").mkdir()
    name = "step-00000009.pt"
    (tmp_path / "again" / name).write_bytes((runs / first / name).read_bytes())
    fit(tmp_path, "again", "train.parallel=fsdp", processes=processes)
    (tmp_path / "one").symlink_to(runs / "one")
    assert_same_run(tmp_path, "again")


FOURTH_STEP = """\
import os, signal
from vtrain.engine.trainer import Trainer
from vtrain.errors import DataError
original = Trainer.train_step
def train_step(self, batch):
    if (self.rank.rank, self.state.step) == (1, 3):
        {what}
    original(self, batch)
Trainer.train_step = train_step
"""


def two_processes(
    folder: Path, what: str = "pass", overrides: tuple[str, str] = ("seed=0", "seed=0")
) -> list[Result]:
    """Run two processes, of which the second does `what` at its fourth step."""
    (folder / "config.yaml").write_text(UNEVEN_RUN)

    def prepare(place: dict[str, str]) -> None:
        os.environ.update(place)
        exec(FOURTH_STEP.format(what=what), {})

    started = time.monotonic()
    commands = [
        Command(
            folder, "fit", "config.yaml", "--run-dir", "run", own, prepare=partial(prepare, place)
        )
        for own, place in zip(overrides, places(2), strict=True)
    ]
    with ending(commands):
        ended = [command.wait(100) for command in commands]
    assert time.monotonic() - started < 60
    return ended


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("raise ValueError('boom')", 1, "rank 1 failed: ValueError('boom')"),
        ("raise DataError('not an image', 'x.png')", 3, "rank 1 failed: not an image (x.png)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "another process is lost or silent"),
        ("os._exit(0)", 0, "another process is lost or silent"),
    ],
)
def test_a_process_that_fails_ends_the_others_and_the_main_one_says_why(
    tmp_path: Path, what: str, code: int, words: str
) -> None:
    main, other = two_processes(tmp_path, what)
    assert (main.code, other.code) == (8, code), main.err + other.err
    (line,) = [line for line in main.err.splitlines() if line.startswith("vtrain: ")]
    assert line.startswith(f"vtrain: error: {words}")
    assert "Traceback" not in main.err
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 8)
    assert (tmp_path / "run" / "last.pt").exists()


def test_a_signal_that_one_process_gets_after_the_last_step_stops_all(tmp_path: Path) -> None:
    kill = "lambda *_: os.kill(os.getpid(), signal.SIGINT)"
    late = f"from vtrain.callbacks.stopping import PeerTimeout; PeerTimeout.on_fit_end = {kill}"
    main, other = two_processes(tmp_path, late)
    assert (main.code, other.code) == (130, 130), main.err + other.err
    assert "stopped by SIGINT after step 21, which is saved" in main.err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "stopped"


def test_a_signal_after_the_end_changes_no_exit_code(tmp_path: Path) -> None:
    kill = "lambda: os.kill(os.getpid(), signal.SIGTERM)"
    late = f"import torch.distributed; torch.distributed.destroy_process_group = {kill}"
    main, other = two_processes(tmp_path, late)
    assert (main.code, other.code) == (0, 0), main.err + other.err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"


def test_processes_with_different_configs_refuse_to_start(tmp_path: Path) -> None:
    main, other = two_processes(tmp_path, overrides=("seed=0", "seed=1"))
    assert (main.code, other.code) == (2, 2)
    assert "the processes differ in config: rank 1" in main.err


def test_under_torchrun_a_bad_image_of_one_process_is_reported_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number in range(8):
            path = tmp_path / "photos" / split / f"class_{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    (tmp_path / "photos/val/class_0/2.png").write_text("<html>")  # sample 1: of process 1
    data = "data: {name: image_folder, root: photos, image_size: 16}"
    lines = [data if line.startswith("data:") else line for line in UNEVEN_RUN.splitlines()]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "vtrain"]
    done = subprocess.run(
        [sys.executable, *torchrun, "fit", "config.yaml", "--run-dir", "run"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1  # torchrun's own
    ours = [line for line in done.stderr.splitlines() if line.startswith("vtrain: error: ")]
    assert len(ours) == 1
    assert "rank 1 failed: " in ours[0]
    assert "2.png" in ours[0]
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 8)
