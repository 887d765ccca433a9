import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.base_configs import BENCH_RUN
from vtrain.bench.report import Report
from vtrain.bench.stats import paired_ratio
from vtrain.cli.commands import app
from vtrain.config import load_config
from vtrain.errors import VtrainError
from vtrain.resources import own_seconds
from vtrain.run.bench import bench, build_harness
from vtrain.run.text.bench_report import report_text

LAYERS = ["bare step", "data only", "end to end", "evaluation"]
PARTS = ["data", "augment", "mixing", "forward", "loss", "backward", "clip", "optimizer", "ema"]


@pytest.fixture(autouse=True)
def _small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtrain.bench.machine.GEMM_SIZE", {"cpu": 128})
    monkeypatch.setattr("vtrain.bench.machine.COPY_BYTES", {"cpu": 1 << 20})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(BENCH_RUN)
    return path


@pytest.fixture
def report(config: Path) -> Report:
    return bench(load_config(config), seconds=0.1)


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
    parts, harness = build_harness(load_config(config), tmp_path, {})
    before = [parameter.clone() for parameter in parts.model.parameters()]
    harness.layers(seconds=0.05)
    after = list(parts.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_time_of_workers_is_our_own(config: Path, tmp_path: Path) -> None:
    more = ["data.num_workers=1", "data.cache=none"]
    _, harness = build_harness(load_config(config, more), tmp_path, {})
    try:
        assert harness.loader.images_ahead == 128
        own, family = time.process_time(), own_seconds()
        harness.layers(seconds=0.05)
        assert own_seconds() - family > time.process_time() - own
    finally:
        harness.close()


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
