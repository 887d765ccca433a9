import io
import json
import re
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from vtrain.callbacks.history import History, MetricsFile
from vtrain.callbacks.progress import Progress, clock
from vtrain.callbacks.stopping import StopOnSignal
from vtrain.callbacks.tensorboard import TensorBoard
from vtrain.engine.budget import TimeBudget
from vtrain.engine.state import TrainState
from vtrain.engine.stop import StopSignals

ROW = {"train/loss": 0.5, "train/lr": 0.1, "train/images_per_second": 100.0}
EVALUATION = {"val/loss": 0.25, "val/top1": 0.5, "val/top5": 1.0}


def state(step: int = 0) -> TrainState:
    model = nn.Linear(2, 2)
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), step=step)


def test_a_resumed_run_cuts_the_rows_it_will_write_again(tmp_path: Path) -> None:
    path, run = tmp_path / "metrics.jsonl", state()
    first = MetricsFile(path)
    first.on_fit_start(run)
    for run.step in (1, 2, 3):
        first.on_log(run, ROW)
    resumed = state(step=2)
    resumed.rows = 2
    second = MetricsFile(path)
    second.on_fit_start(resumed)
    resumed.step = 3
    second.on_eval_end(resumed, EVALUATION)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["val/top1"] == 0.5
    assert resumed.rows == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drive(
    stream: io.StringIO,
    *,
    log_every: int = 50,
    eval_every: int = 3,
    num_classes: int = 10,
    steps: int = 6,
) -> str:
    """Train two epochs of three steps, evaluated every `eval_every` steps and at the end."""
    progress = Progress(2, 3, steps, stream, num_classes=num_classes, log_every=log_every)
    run = state()
    progress.on_fit_start(run)
    for step in range(1, steps + 1):
        run.step, run.epoch = step, step // 3
        if step % 3 == 0 or step % log_every == 0 or step == steps:
            progress.on_log(run, ROW)
        progress.on_step_end(run)
        if step % eval_every == 0 or step == steps:
            progress.on_eval_end(run, EVALUATION)
    progress.on_fit_end(run)
    return stream.getvalue()


def test_off_a_terminal_a_short_epoch_is_one_plain_line() -> None:
    first, second = drive(io.StringIO()).splitlines()
    said = "loss 0.5000  val/loss 0.2500  val/top1 0.5000  val/top5 1.0000  0:00"
    assert first == f"epoch 1/2  {said}  100 images/s  ETA 0:00"
    assert second == f"epoch 2/2  {said}"


def test_off_a_terminal_a_long_epoch_has_lines_for_its_logs_and_none_twice() -> None:
    lines = drive(io.StringIO(), log_every=2).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "step 2/6", "epoch 1/2", "step 4/6", "epoch 2/2",
    ]  # fmt: skip


def test_an_epoch_that_is_not_evaluated_still_has_its_line() -> None:
    lines = drive(io.StringIO(), eval_every=6).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 3/6", "epoch 2/2"]


def test_an_epoch_that_does_not_end_is_not_called_one() -> None:
    lines = drive(io.StringIO(), steps=2).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 2"]


@pytest.mark.parametrize(("num_classes", "shown"), [(5, False), (6, True)])
def test_top5_is_not_shown_where_it_is_always_1(num_classes: int, shown: bool) -> None:
    assert ("val/top5" in drive(io.StringIO(), num_classes=num_classes)) == shown


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (90, "epoch 1/2  loss 0.5000  val/loss 0.2500  val/top1 0.5000  val/top5 1.0000  0:00"),
        (70, "epoch 1/2  loss 0.5000  val/loss 0.2500  val/top1 0.5000  0:00"),
        (60, "epoch 1/2  loss 0.5000  val/loss 0.2500  val/top1 0.5000"),
        (45, "epoch 1/2  val/loss 0.2500  val/top1 0.5000"),
        (20, "epoch 1/2  val/top1 0.5000"),
    ],
)
def test_a_narrow_terminal_gets_what_is_most_worth_reading(
    monkeypatch: pytest.MonkeyPatch, columns: int, line: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = re.split(r"[\r\n]", drive(Terminal()))
    assert next(found for found in lines if "val/top1" in found) == line


def test_on_a_terminal_each_epoch_has_a_bar_and_a_lasting_line() -> None:
    text = drive(Terminal())
    assert "epoch 1/2" in text
    assert "epoch 2/2" in text
    assert "\r" in text
    assert len([line for line in text.split("\n") if "val/top1" in line]) == 2


def test_a_run_with_a_time_budget_is_expected_to_end_with_it() -> None:
    stream, run = io.StringIO(), state(step=0)
    run.budget = TimeBudget(2, clock=lambda: 0.0)
    progress = Progress(2, 3, 10**9, stream)
    progress.on_fit_start(run)
    run.step = 1
    progress.on_log(run, ROW)
    assert "ETA 2:00" in stream.getvalue()


def test_beyond_the_end_nothing_is_said_of_it() -> None:
    stream, run = io.StringIO(), state()
    progress = Progress(2, 3, 6, stream)
    progress.on_fit_start(run)
    run.step = 7
    progress.on_log(run, ROW)
    assert stream.getvalue() == "step 7  loss 0.5000  100 images/s\n"


def test_a_bar_shows_position_loss_speed_and_what_is_left() -> None:
    stream, run = Terminal(), state()
    progress = Progress(2, 3, 6, stream)
    progress.on_fit_start(run)
    run.step = 1
    progress.on_log(run, ROW)
    progress.on_step_end(run)
    assert progress.bar is not None
    progress.bar.refresh()
    assert "1/3, loss 0.5000  100 images/s  ETA 0:00" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_hparams_tab_knows_the_config_and_the_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import (
        EXPERIMENT_TAG,
        SESSION_START_INFO_TAG,
        parse_experiment_plugin_data,
        parse_session_start_info_plugin_data,
    )

    values = {"seed": 3, "optimizer.lr": 0.5, "a": None, "b": True, "c": [1, 2], "d": "text"}
    run = state()
    board = TensorBoard(tmp_path, None, values)
    board.on_fit_start(run)
    board.on_eval_end(run, EVALUATION)
    board.on_fit_end(run)
    assert len(list(tmp_path.iterdir())) == 1  # no folder of its own
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    found = parse_session_start_info_plugin_data(content).hparams
    assert {key: found[key].number_value for key in ("seed", "optimizer.lr")} == {
        "seed": 3,
        "optimizer.lr": 0.5,
    }
    assert found["b"].number_value == 1  # torch takes it for a whole number
    assert [found[key].string_value for key in "acd"] == ["None", "[1, 2]", "text"]
    content = events.SummaryMetadata(EXPERIMENT_TAG).plugin_data.content
    metrics = {info.name.tag for info in parse_experiment_plugin_data(content).metric_infos}
    assert metrics == EVALUATION.keys()
    assert [e.value for e in events.Scalars("val/top1")] == [0.5]  # and no point beside the curve


def test_tensorboard_holds_one_value_for_each_step_also_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def picture() -> Image.Image:
        return Image.new("RGB", (30, 20), "red")

    run = state()
    board = TensorBoard(tmp_path, picture)
    board.on_fit_start(run)
    for run.step in (1, 2, 3):
        board.on_log(run, ROW)
    board.on_fit_end(run)
    resumed = state(step=2)
    board = TensorBoard(tmp_path, picture)
    board.on_fit_start(resumed)
    resumed.step = 3
    board.on_log(resumed, {**ROW, "train/loss": 0.75})
    board.on_eval_end(resumed, EVALUATION)
    board.on_fit_end(resumed)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (1, 0.5),
        (2, 0.5),
        (3, 0.75),
    ]
    assert {"train/lr", "val/top1"} <= set(events.Tags()["scalars"])
    (shown,) = events.Images("train/images")
    assert (shown.step, shown.width, shown.height) == (0, 30, 20)


def test_after_a_failure_no_thread_writes_the_event_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer opens its file anew for each event, which would bring a removed one back."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    write = RecordWriter.write

    def write_late(writer: RecordWriter, data: bytes) -> None:
        time.sleep(0.1)
        write(writer, data)

    board = TensorBoard(tmp_path, None)
    run = state()
    board.on_fit_start(run)
    monkeypatch.setattr(RecordWriter, "write", write_late)
    board.on_log(run, ROW)
    board.on_fit_failed(run)
    (events,) = tmp_path.iterdir()
    events.unlink()
    time.sleep(0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_stops_after_the_step(tmp_path: Path) -> None:
    signals, run = StopSignals(), state()
    callback = StopOnSignal(signals)
    callback.on_step_end(run)
    assert not run.should_stop
    signals.received = 15
    callback.on_step_end(run)
    assert run.stop_reason == "stopped by SIGTERM"


def test_history_gives_the_median_speed(tmp_path: Path) -> None:
    history = History(tmp_path / "metrics.jsonl")
    assert history.images_per_second is None
    for rate in (10.0, 1000.0, 20.0):
        history.on_log(state(), {**ROW, "train/images_per_second": rate})
    assert history.images_per_second == 20.0
