import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vtrain.bench.machine import family_seconds
from vtrain.bench.stats import paired_ratio, summarise
from vtrain.cli import app
from vtrain.config import load_config
from vtrain.engine.state import TrainState
from vtrain.errors import VtrainError
from vtrain.run.bench import Layer, Pace, Report, Subject, advice, bench
from vtrain.run.text.bench_report import report_text

CONFIG = """
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 1}
data: {name: digits, image_size: 8}
augment: {crop_padding: 1}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 3, batch_size: 100, ema_decay: 0.9, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""
LAYERS = ["bare step", "data only", "end to end", "evaluation"]
PARTS = ["data", "augment", "mixing", "forward", "loss", "backward", "clip", "optimizer", "ema"]


@pytest.fixture(autouse=True)
def _small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtrain.bench.machine.GEMM_SIZE", {"cpu": 128})
    monkeypatch.setattr("vtrain.bench.machine.COPY_BYTES", {"cpu": 1 << 20})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def report(config: Path) -> Report:
    return bench(load_config(config), seconds=0.1)


def layer(rate: float) -> Layer:
    return Layer(summarise([rate]), [rate], None)


def layers(bare: float, data: float) -> dict[str, Layer]:
    return {"bare step": layer(bare), "data only": layer(data)}


def test_the_command_prints_json_that_says_everything(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    result = CliRunner().invoke(app, ["bench", str(config), "--seconds", "0.1", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert list(content["layers"]) == LAYERS
    for found in content["layers"].values():
        assert found["images_per_second"]["median"] == pytest.approx(np.median(found["windows"]))
        assert found["images_per_second"]["n"] == len(found["windows"]) >= 7
    bare, run = (content["layers"][name]["windows"] for name in ("bare step", "end to end"))
    assert content["end_to_end"] == asdict(paired_ratio(run, bare))
    assert list(content["cold"]) == ["import", "parts", "first batch", "first step"]
    assert list(content["split"]) == [*PARTS, "rest"]
    work, limit = content["work"], content["limit"]
    assert (work["batch_size"], work["precision"], work["image_size"]) == (100, "fp32", 8)
    assert 0 < limit["images_per_second"] <= limit["flops"] / work["flops_per_image"]
    assert content["kernels"] == []
    assert list(elsewhere.iterdir()) == []  # the run folder is gone


def test_the_parts_of_a_step_make_up_the_step(report: Report) -> None:
    assert min(report.split.values()) > -1e-3  # differences of clocks, not of work
    assert report.split["forward"] > 0 < report.split["backward"]
    assert report.split["ema"] > 0
    step = sum(report.split.values())
    assert step > 0.5 * 100 / max(report.layers["end to end"].windows)


def test_the_text_has_a_line_for_each_layer_and_says_what_is_next(report: Report) -> None:
    text = report_text(report)
    assert all(f"\n{name} " in text for name in LAYERS)
    assert text.splitlines()[-1] == f"next     {report.next}"


def test_times_beside_busy_neighbours_are_marked(report: Report) -> None:
    assert "CONTENDED" in report_text(replace(report, others_share=0.5))
    assert "(clean)" in report_text(replace(report, others_share=0.01))


def test_a_profile_leaves_a_trace_and_names_the_slowest_kernels(
    config: Path, tmp_path: Path
) -> None:
    report = bench(load_config(config), seconds=0.1, trace=tmp_path / "trace")
    assert json.loads((tmp_path / "trace" / "trace.json").read_text())["traceEvents"]
    shares = [kernel["share"] for kernel in report.kernels]
    assert len(shares) == 5
    assert 0 < sum(shares) <= 1
    assert shares == sorted(shares, reverse=True)
    assert "kernel" in report_text(report)


def test_what_is_measured_learns_nothing(config: Path, tmp_path: Path) -> None:
    subject = Subject.build(load_config(config), tmp_path, {})
    before = [parameter.clone() for parameter in subject.parts.model.parameters()]
    subject.layers(seconds=0.05)
    after = list(subject.parts.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_short_last_batch_counts_as_many_images_as_it_has() -> None:
    pace = Pace(images=10, batch_size=4, steps_per_epoch=3)
    state = TrainState(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))
    counted = []
    for epoch, epoch_step in [(0, 1), (0, 2), (1, 0), (1, 1)]:
        state.epoch, state.epoch_step = epoch, epoch_step
        counted.append(pace._images(state))
    assert counted == [4, 8, 10, 14]


class Clock:
    """A clock that only moves when someone works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def paced(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[Clock, int], float], ahead: int = 0
) -> Pace:
    """Let a run of 4 images a step and a rival that takes 1 s for them take turns.

    `step` returns the seconds of a step that follows so many steps after the last of the rival's;
    both take three times as long in every second stretch of 1000 s.
    """
    clock = Clock()
    monkeypatch.setattr("vtrain.bench.timing.time", clock)
    monkeypatch.setattr("vtrain.run.bench.time", clock)
    since = 0

    def spend(seconds: float) -> int:
        clock.now += seconds * (3 if clock.now % 2000 > 1000 else 1)
        return 4

    def rival() -> int:
        nonlocal since
        since = 0
        return spend(1.0)

    pace = Pace(images=400, batch_size=4, steps_per_epoch=100)
    pace.begin(5000, 10, rival, ahead)
    state = TrainState(torch.nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1)]))
    pace.on_fit_start(state)
    while state.stop_reason is None:
        spend(step(clock, since))
        since += 1
        state.epoch_step += 1
        pace.on_step_end(state)
        if state.epoch_step == 100:
            state.epoch, state.epoch_step = state.epoch + 1, 0
            pace.on_epoch_end(state)
    return pace


def test_a_machine_that_changes_its_speed_does_not_change_the_ratio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = paced(monkeypatch, lambda clock, since: 1.25)
    assert len(pace.rates) == len(pace.rival_rates) > 100
    assert min(pace.rates) < 0.5 * max(pace.rates)
    ratio = paired_ratio(pace.rates, pace.rival_rates)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.8, 0.8, 0.8))


def test_what_workers_prepare_while_the_bare_step_runs_is_no_speed_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(clock: Clock, since: int) -> float:
        return 1.0 if since < 3 else 2.0  # 9 images lie ready: 3 steps need not wait for more

    fair = paced(monkeypatch, step, ahead=9)
    assert paired_ratio(fair.rates, fair.rival_rates).median == pytest.approx(0.5)
    unfair = paced(monkeypatch, step, ahead=0)
    assert paired_ratio(unfair.rates, unfair.rival_rates).median > 0.55


def test_the_time_of_workers_is_our_own(config: Path, tmp_path: Path) -> None:
    more = ["data.num_workers=1", "data.cache=none"]
    subject = Subject.build(load_config(config, more), tmp_path, {})
    try:
        assert subject.parts.train_loader.images_ahead == 128
        own, family = time.process_time(), family_seconds()
        subject.layers(seconds=0.05)
        assert family_seconds() - family > time.process_time() - own
    finally:
        subject.close()


def test_the_advice_names_a_slow_loader() -> None:
    found = advice(layers(bare=100, data=50), 0.48, 200, {"data": 1.0, "forward": 1.0})
    assert "data.num_workers" in found


def test_the_advice_names_what_is_around_the_step() -> None:
    split = {"data": 0.1, "augment": 0.3, "mixing": 0.0, "rest": 0.0, "forward": 0.6}
    assert "'augment' takes most: 30%" in advice(layers(bare=100, data=500), 0.8, 200, split)


def test_the_advice_names_the_slowest_part_of_a_step_that_is_all_there_is() -> None:
    found = advice(layers(bare=100, data=500), 0.99, 200, {"forward": 0.3, "backward": 0.7})
    assert "'backward' is 70%" in found
    assert "50% of its time" in found


def test_a_mistake_in_the_config_is_the_command_lines_error(config: Path) -> None:
    result = CliRunner().invoke(app, ["bench", str(config), "model.patch_sz=2"])
    assert isinstance(result.exception, VtrainError)
    assert result.exception.exit_code == 2
    assert "patch_sz" in str(result.exception)


def test_no_time_to_measure_in_is_refused(config: Path) -> None:
    result = CliRunner().invoke(app, ["bench", str(config), "--seconds", "0"])
    assert result.exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_refused_before_anything_is_timed(config: Path) -> None:
    with pytest.raises(VtrainError) as caught:
        bench(load_config(config, ["train.device=cuda"]))
    assert caught.value.exit_code == 6
