import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.report import CASES, Cost, line, made_up
from vtrain.report.predictions import Predictions


@pytest.mark.slow
def test_a_made_up_run_has_a_report_with_images_and_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "DISTINCT", 5)
    case = replace(CASES["cifar"], classes=4, per_class=6)
    run, keep = made_up(case, tmp_path)
    predictions = Predictions.load(run / "predictions.npz")
    assert predictions.logits.shape == (24, 4)
    assert keep >= 0
    cost = report.cost(run)
    page = (tmp_path / "page.html").read_text()
    assert cost.page_bytes == len(page.encode())
    assert cost.processor > 0
    assert cost.peak_bytes > 50e6
    assert "what the model looked at" in page
    twin = json.loads((tmp_path / "page.json").read_text())
    assert twin["predictions"]["overall"]["images"] == 24


def test_a_row_has_the_medians_and_what_is_allowed() -> None:
    costs = [Cost(w, 2 * w, 10**9, 2_500_000, 10**6) for w in (3.0, 1.0, 9.0)]
    assert line("cifar", CASES["cifar"], 0.25, costs).split() == [
        "cifar", "3.0", "(<30)", "6.0", "0.250", "1000", "2.50", "(<3)", "1.00"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "photographs", lambda *_: (tmp_path / "photos").mkdir())
    with pytest.raises(SystemExit, match="vtrain: error"):
        made_up(CASES["cifar"], tmp_path)
