import csv
import io
import statistics

import numpy as np
import pytest

from tests.report.cases import facts, predictions, random_scores
from vtrain.report.comparison import (
    Run,
    compare_runs,
    comparison_csv,
    differing_keys,
)
from vtrain.report.facts import RunFacts, curve
from vtrain.report.predictions import Predictions
from vtrain.report.scores import Scores


def run(name: str, seed: int, top1: float | None = 0.5, **optimizer: object) -> Run:
    rows = [] if top1 is None else [{"step": 1, "epoch": 1, "val/top1": top1}]
    config = {"seed": seed, "model": {"name": "vit"}, "optimizer": {"lr": 0.1, **optimizer}}
    return Run(facts(name, config=config, rows=rows), None)


def test_only_keys_that_differ_are_columns() -> None:
    configs = [{"a": 1, "b": [1, 2], "c": 0}, {"a": 1, "b": [1, 3]}, {"a": 1, "b": [1, 2], "c": 0}]
    assert differing_keys(configs) == ["b", "c"]
    comparison = compare_runs([run("x", 0), run("y", 0, lr=0.2, beta=1)])
    assert comparison.keys == ["optimizer.lr", "optimizer.beta"]
    assert comparison.lines[0].values == {"optimizer.lr": 0.1, "optimizer.beta": "absent"}


def test_figures_are_best_and_last_of_the_rows() -> None:
    (line,) = compare_runs([Run(facts(), None)]).lines
    assert line.figures["best top-1"] == 0.8
    assert line.figures["last top-1"] == 0.7
    assert line.figures["best loss"] == 0.5
    assert line.figures["last loss"] == 0.6
    assert line.figures["peak MB"] == 2000
    assert line.state == "finished"


def test_runs_that_differ_in_the_seed_alone_are_one_group() -> None:
    values = [0.5, 0.6, 0.8]
    runs = [run(f"r{s}", s, v) for s, v in enumerate(values)] + [run("other", 0, 0.9, lr=1.0)]
    comparison = compare_runs(runs)
    first, second = comparison.groups
    assert first.runs == ["r0", "r1", "r2"]
    assert first.n == 3
    assert first.values == {"optimizer.lr": 0.1}
    assert first.mean["best top-1"] == pytest.approx(np.mean(values))
    assert first.deviation["best top-1"] == pytest.approx(np.std(values, ddof=1))
    assert second.deviation["best top-1"] is None
    assert compare_runs([run("x", 0), run("y", 1, lr=2)]).groups == []


def test_a_copy_of_a_run_adds_nothing_to_the_spread() -> None:
    comparison = compare_runs([run("x", 0, 0.4), run("copy", 0, 0.4), run("y", 1, 0.6)])
    (group,) = comparison.groups
    assert group.runs == ["x", "y"]
    assert group.deviation["best top-1"] == pytest.approx(statistics.stdev([0.4, 0.6]))
    assert compare_runs([run("x", 0), run("copy", 0)]).groups == []


def test_a_run_without_a_figure_does_not_count_in_its_mean() -> None:
    comparison = compare_runs([run("x", 0, 0.4), run("y", 1, None), run("z", 2, 0.6)])
    (group,) = comparison.groups
    assert group.mean["last top-1"] == pytest.approx(statistics.mean([0.4, 0.6]))
    assert "last top-5" not in comparison.figures


def test_against_compares_the_same_images_however_they_are_ordered() -> None:
    a = predictions(random_scores(200, 4))
    noisy = a.logits + np.random.default_rng(0).normal(size=a.logits.shape)
    rows = np.random.default_rng(1).permutation(200)
    b = Predictions(
        noisy[rows].astype(np.float32),
        a.targets[rows],
        tuple(a.ids[r] for r in rows),
        a.classes,
        a.about,
    )
    base, other = Run(facts("base"), a), Run(facts("other"), b)
    (found,) = compare_runs([base, other], base).against
    assert found.paired is not None
    right = Scores(noisy.astype(np.float32), a.targets).correct
    lost = np.flatnonzero(a.scores().correct & ~right)
    won = np.flatnonzero(right & ~a.scores().correct)
    assert (found.paired.only_a, found.paired.only_b) == (len(lost), len(won))
    for listed, places, answers in ((found.lost, lost, "base"), (found.won, won, "run")):
        assert len(listed) == min(24, len(places))
        assert {one.image for one in listed} <= {a.ids[i] for i in places}
        assert all(getattr(one, answers)[0] == one.label for one in listed)
        assert all(one.base[0] != one.run[0] for one in listed)
        sure = [min(one.base[1], one.run[1]) for one in listed]
        assert sure == sorted(sure, reverse=True)
    first = found.lost[0]
    i = a.ids.index(first.image)
    probs = np.exp(noisy[i]) / np.exp(noisy[i]).sum()
    assert first.run == (a.classes[probs.argmax()], pytest.approx(probs.max(), rel=1e-5))
    assert first.label == a.classes[a.targets[i]]


def test_what_cannot_be_compared_has_a_reason() -> None:
    base = Run(facts("base"), predictions(random_scores(20, 4)))
    others = [
        Run(facts("none"), None),
        Run(facts("fewer"), predictions(random_scores(19, 4))),
        Run(facts("classes"), predictions(random_scores(20, 5))),
    ]
    reasons = [found.reason for found in compare_runs([base, *others], base).against]
    assert reasons[0] == "none has no predictions"
    assert "not of the same images" in str(reasons[1])
    assert "same classes" in str(reasons[2])
    (found,) = compare_runs([others[0], base], others[0]).against
    assert found.reason == "none has no predictions"


def test_a_metric_that_is_no_number_is_no_point_of_a_curve() -> None:
    values = [0.5, float("nan"), float("inf"), 10**400, "0.9", None, 0.3]
    rows = [{"step": n, "val/top1": value} for n, value in enumerate(values)]
    assert curve(rows, "val/top1")[1] == [0.5, 0.3]
    (line,) = compare_runs([Run(facts(rows=rows, summary={"wall_seconds": 10**400}), None)]).lines
    assert line.figures["best top-1"] == 0.5
    assert line.figures["last top-1"] == 0.3
    assert line.figures["seconds"] is None


def test_csv_is_read_back_and_inert() -> None:
    hostile = RunFacts("=1+1,\n", "x", {"seed": "@cmd"})
    text = comparison_csv(compare_runs([Run(hostile, None), run("plain", 1)]))
    head, first, second = csv.reader(io.StringIO(text))
    assert head[:3] == ["run", "state", "seed"]
    assert first[:3] == ["'=1+1,\n", "unknown", "'@cmd"]
    assert second[:3] == ["plain", "finished", "1"]
    assert first[head.index("best top-1")] == ""
