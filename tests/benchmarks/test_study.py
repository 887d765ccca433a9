import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.study import (
    Kept,
    Pair,
    Trained,
    main,
    read_kept,
    read_study,
    student_interval,
    table,
)
from tests.base_configs import SMALL_RUN
from vtrain.errors import DataError
from vtrain.files.runs import RunFolder
from vtrain.report.predictions import Predictions

STUDIES = sorted(Path("benchmarks/studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_name_configs_and_keys_that_there_are(path: Path) -> None:
    from vtrain.config import load_config

    study = read_study(path)
    for arm in study.arms.values():
        load_config(arm.config, [*study.overrides, *arm.overrides, "data.root=."])


def test_the_interval_of_few_seeds_is_students() -> None:
    values = [1.0, 2.5, -0.5, 3.0]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx(tuple(expected), abs=1e-12)
    assert student_interval([1.0]) == (-math.inf, math.inf)


def trained(arm: str, seed: int, top1: float) -> Trained:
    figures = {"seconds": 60.0, "images/s": 100.0, "peak MB": None}
    return Trained(arm, seed, top1, nll=1.0, ece=0.1, figures=figures, curve=[(1, top1)])


def test_a_table_tells_means_deviations_and_paired_differences(tmp_path: Path) -> None:
    runs = [
        trained("a", 0, 0.5),
        trained("a", 1, 0.6),
        trained("b", 0, 0.52),
        trained("b", 1, 0.64),
    ]
    pairs = [Pair("b", 0, 0.02, 0.5), Pair("b", 1, 0.04, 0.01)]
    kept = Kept("Which?", "a", runs, pairs, {"commit": "abc"})
    (tmp_path / "kept.json").write_text(json.dumps(asdict(kept)))
    assert read_kept(tmp_path / "kept.json") == kept
    question, _, base, other, *about = table(kept).splitlines()
    assert question == "Which?"
    assert base.split()[:4] == ["a", "2", "55.00", "+-"]
    assert base.endswith("nan")  # no memory was recorded
    low, high = student_interval([2.0, 4.0])
    assert other.endswith(f"+3.00 [{low:+.2f}, {high:+.2f}]; 0.5, 0.01")
    assert "commit: abc" in about


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question: q\nseeds: [0]\nbase: z\narms: {a: {config: c.yaml}}", "base: z is none"),
        ("question: q\nseeds: [1, 1]\nbase: a\narms: {a: {config: c.yaml}}", "seeds"),
        ("question: q\nseeds: [x]\nbase: a\narms: {a: {config: c.yaml}}", "seeds.0"),
        ("question: q\nseeds: [0]\nbase: a\narms: {a: {}}", "arms.a.config"),
    ],
)
def test_what_is_no_study_is_refused_where_it_is_wrong(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_study(path)


@pytest.mark.slow
def test_a_study_trains_keeps_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figures are those of the last checkpoint; a second time nothing is trained."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL_RUN)
    study = tmp_path / "wide.yaml"
    arms = (
        f"narrow: {{config: {config}}}, wide: {{config: {config}, overrides: [train.batch_size=7]}}"
    )
    study.write_text(f"question: Wide?\nseeds: [0]\nbase: narrow\narms: {{{arms}}}\n")
    where = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["study", str(study), *where])
    assert main() == 0
    shown = capsys.readouterr().out
    kept = read_kept(tmp_path / "results" / "study_wide.json")
    for run in kept.runs:
        folder = RunFolder(tmp_path / "runs" / "wide" / run.arm / "seed_0")
        predictions = Predictions.load(folder.predictions)
        assert predictions.about["step"] == folder.read_metrics()[-1]["step"]
        hits = predictions.logits.argmax(1) == predictions.targets
        assert run.top1 == pytest.approx(np.mean(hits))
        assert run.top1 == pytest.approx(run.curve[-1][1], abs=1e-6)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")}
    assert main() == 0
    assert capsys.readouterr().out == shown
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")} == times
    monkeypatch.setattr(sys, "argv", ["study", "--kept", str(tmp_path / "results/study_wide.json")])
    assert main() == 0
    assert capsys.readouterr().out == shown
