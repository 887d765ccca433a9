import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt

import benchmarks.scaling


@pytest.fixture
def scaling() -> Iterator[Any]:
    threads = torch.get_num_threads()
    yield benchmarks.scaling
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(scaling: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    sizes = replace(
        scaling.SIZES["cpu"],
        sides=(8, 16),
        window_sides=(2, 4),
        images={"vit_ti": (16, 32)},
    )
    monkeypatch.setitem(scaling.SIZES, "cpu", sizes)
    return scaling


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_law_is_found(scaling: Any, power: float) -> None:
    sizes = [8, 16, 24, 32, 48, 64]
    costs = [3e-4 * size**power for size in sizes]
    assert scaling.exponent(sizes, costs) == pytest.approx(power)


def test_calls_that_outweigh_the_work_of_small_sizes_do_not_change_the_exponent(
    scaling: Any,
) -> None:
    sizes = [1, 2, 4, 64, 128, 256]
    assert scaling.exponent(sizes, [50.0, 50.0, 50.0, 64.0**2, 128.0**2, 256.0**2]) == (
        pytest.approx(2)
    )


def test_the_line_names_the_cost_and_the_operations_with_their_exponents(scaling: Any) -> None:
    tokens = [256, 1024, 4096, 16384]
    line = scaling.growth("x", "tokens", tokens, [n**1.5 for n in tokens], [n**2 for n in tokens])
    assert line == (
        "x: time grows with tokens^1.50, operations with tokens^2.00 (from 4,096 tokens on)"
    )


def test_on_paper_attention_grows_faster_than_linearly_and_windows_do_not(tiny: Any) -> None:
    options = tiny.parse(["--clock", "cpu", "--seconds", "0.01", "--device", "cpu"])
    everywhere, in_windows = tiny.attention(options).findings
    of_all = math.log((4 * 256 * 96**2 + 2 * 256**2 * 96) / (4 * 64 * 96**2 + 2 * 64**2 * 96), 4)
    assert f"operations with tokens^{of_all:.2f}" in everywhere
    assert "operations with tokens^1.00" in in_windows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what", "memory"], "invalid choice: 'memory'"),
        (["--seconds", "0"], "--seconds must be more than 0, not 0"),
        (["--plot", "missing/curves.png"], "--plot: there is no folder"),
        (["--json", "missing/numbers.json"], "--json: there is no folder"),
        (["--plot", "curves.doc"], "--plot: curves.doc must end in .png, .svg or .pdf"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_at_the_start(
    scaling: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        scaling.parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(
    scaling: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scaling.parse(["--device", "cuda"])
    assert "torch finds no GPU" in capsys.readouterr().err


def test_processor_time_leaves_the_processes_out(
    scaling: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "processes" not in scaling.parse(["--clock", "cpu"]).what
    assert "processes: left out" in capsys.readouterr().err


def test_a_command_that_fails_ends_the_measurement_with_its_last_word(scaling: Any) -> None:
    with pytest.raises(SystemExit, match=r"failed with 3: out of luck$"):
        scaling.output_of(
            [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"]
        )


def test_a_small_run_writes_its_numbers_and_its_curves(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--what", "attention", "model", "window", "--clock", "cpu", "--device", "cpu"]
    arguments += ["--seconds", "0.01"]
    arguments += ["--json", str(tmp_path / "n.json"), "--plot", str(tmp_path / "n.svg")]
    monkeypatch.setattr(sys, "argv", ["scaling", *arguments])
    tiny.main()
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert [row["tokens"] for row in numbers["attention"]["rows"]] == [64, 256]
    assert [row["side"] for row in numbers["window"]["rows"]] == [2, 4]
    assert [row["pixels"] for row in numbers["model"]["rows"]] == [256, 1024]
    assert all(row["ms per image"] > 0 for row in numbers["model"]["rows"])
    assert numbers["model"]["findings"][0] in capsys.readouterr().out
    assert "<svg" in (tmp_path / "n.svg").read_text()


def test_every_panel_names_its_axes_and_its_units(scaling: Any) -> None:
    sizes = [8, 16, 32, 64]
    results = {
        "attention": {"rows": [{"tokens": n, "all ms": n**2, "windows ms": n} for n in sizes]},
        "model": {"rows": [{"model": "vit_ti", "pixels": n, "ms per image": n} for n in sizes]},
        "window": {"rows": [{"side": n, "ms": n} for n in sizes]},
        "batch": {"rows": [{"batch": n, "images/s": n, "peak MiB": n} for n in sizes]},
        "processes": {"rows": [{"processes": n, "images/s": n} for n in (1, 2)]},
    }
    figure, axes = plt.subplots(1, 6)
    panels = scaling.panels(results)
    assert len(panels) == 6
    for panel, place in zip(panels, axes, strict=True):
        panel.draw(place)
        assert place.get_xlabel()
        assert any(unit in place.get_ylabel() for unit in ("ms", "images/s", "MiB"))
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend == ["all tokens with all: power 2.00", "windows of 8 x 8: power 1.00"]
    plt.close(figure)
