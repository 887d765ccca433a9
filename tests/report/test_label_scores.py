"""Figures of several labels an image, against loops and scikit-learn; pages of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from vtrain.errors import CheckpointError, DataError
from vtrain.files.arrays import read_arrays, write_arrays
from vtrain.report.document import analysis_data, per_class_csv
from vtrain.report.facts import RunFacts
from vtrain.report.label_analysis import analyse_labels
from vtrain.report.label_scores import LabelScores, per_label
from vtrain.report.page import run_page
from vtrain.report.paired import compare, mcnemar
from vtrain.report.predictions import Predictions, aligned, joined

K = 4


def predictions(seed: int = 0, count: int = 80, **changes: Any) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, K)).astype(np.float32)
    targets = (logits + rng.normal(size=(count, K)) > [0, 0.5, 1.5, 9]).astype(np.float32)
    fields: dict[str, Any] = {
        "logits": logits,
        "targets": targets,
        "ids": tuple(f"{n}.png" for n in range(count)),
        "classes": ("ant", "<b>bee</b>", "cat", "dodo"),
        "about": {"split": "val", "step": 3},
        "thresholds": (0.4, 0.5, 0.6, 0.5),
    }
    return Predictions(**fields | changes)


def test_figures_of_each_class_are_scikit_learns() -> None:
    scores = predictions().label_scores()
    found = per_label(scores)
    for name, theirs in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
    ):
        expected = theirs(scores.truth, scores.named, average=None, zero_division=0)
        assert getattr(found, name)[:3].tolist() == pytest.approx(expected[:3].tolist())
    assert found.support.tolist() == scores.truth.sum(0).tolist()
    # No image has the last class, which is named all the same.
    assert np.isnan([found.recall[3], found.f1[3], found.average_precision[3]]).all()
    assert found.precision[3] == 0
    assert found.worst_first()[-1] == 3


def test_losses_and_right_answers_of_images_equal_a_loop() -> None:
    scores = predictions().label_scores()
    for n in range(len(scores)):
        expected = np.mean([log_loss([t], [p], labels=[0, 1]) for t, p in
                            zip(scores.truth[n], scores.probs[n], strict=True)])  # fmt: skip
        assert scores.loss[n] == pytest.approx(expected)
        assert scores.correct[n] == all(scores.named[n] == scores.truth[n])
    assert scores.metrics()["val/loss"] == pytest.approx(scores.loss.mean())


def test_a_file_has_labels_and_thresholds_and_is_not_trusted(tmp_path: Path) -> None:
    path, kept = tmp_path / "predictions.npz", predictions()
    kept.save(path)
    again = Predictions.load(path)
    assert np.array_equal(again.targets, kept.targets)
    assert (again.thresholds, again.has_several) == (kept.thresholds, True)
    arrays = read_arrays(path)
    for damage in (
        {"thresholds": np.array([0.5])},
        {"targets": kept.targets * 2},
        {"targets": kept.targets.astype(np.int64)},
    ):
        write_arrays(tmp_path / "bad.npz", {**arrays, **damage})
        with pytest.raises(CheckpointError, match="not predictions"):
            Predictions.load(tmp_path / "bad.npz")
    del arrays["thresholds"]
    write_arrays(tmp_path / "bad.npz", arrays)
    with pytest.raises(CheckpointError, match="no 'thresholds"):
        Predictions.load(tmp_path / "bad.npz")


def test_what_is_of_one_class_an_image_is_refused_in_one_line() -> None:
    for ask in (lambda: predictions().scores(), lambda: joined([predictions()])):
        with pytest.raises(DataError, match="for images of one class each") as found:
            ask()
        assert len(found.value.lines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": (0.5,)}, "thresholds have the shapes"),
        ({"logits": np.full((80, K), np.nan, np.float32)}, "NaN or infinity"),
        ({"targets": np.full((80, K), -1, np.float32)}, "not in 0 .. 1"),
        ({"ids": ("a",)}, "1 images and 4 classes have names"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictions(**changes)


def test_two_models_are_compared_on_the_same_images_and_classes() -> None:
    a, order = predictions(), [2, 0, 3, 1]
    rows = np.random.default_rng(1).permutation(80)
    noise = np.random.default_rng(2).normal(size=(80, K)).astype(np.float32)
    b = Predictions(
        (a.logits + noise)[rows][:, order],
        a.targets[rows][:, order],
        tuple(a.ids[n] for n in rows),
        tuple(a.classes[k] for k in order),
        {},
        tuple(a.thresholds[k] for k in order),
    )
    first, second = aligned(a, b)
    assert isinstance(second, LabelScores)
    np.testing.assert_array_equal(second.logits, a.logits + noise)
    assert second.thresholds.tolist() == list(a.thresholds)
    found = compare(first, second)
    only_a = int((first.correct & ~second.correct).sum())
    only_b = int((second.correct & ~first.correct).sum())
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == mcnemar(only_a, only_b)


def test_what_occurs_together_equals_a_loop() -> None:
    kept = predictions()
    found, truth = analyse_labels(kept), kept.targets > 0
    for a in range(K):
        for b in range(K):
            assert found.together[a, b] == sum(row[a] and row[b] for row in truth)
    for pair in found.pairs:
        of_a, of_b = truth[:, pair.first].sum(), truth[:, pair.second].sum()
        assert pair.of_first == pytest.approx(pair.images / of_a)
        assert pair.lift == pytest.approx(pair.images / 80 / (of_a / 80 * of_b / 80))
    assert [p.images for p in found.pairs] == sorted((p.images for p in found.pairs), reverse=True)
    assert found.without_images == [3]


def test_the_worst_images_say_what_is_missed_and_what_is_wrong() -> None:
    kept = predictions()
    scores, found = kept.label_scores(), analyse_labels(kept)
    losses = [scores.loss[one.index] for one in found.worst]
    assert losses == sorted(losses, reverse=True)
    for one in found.worst:
        truth, named = scores.truth[one.index], scores.named[one.index]
        assert not scores.correct[one.index]
        assert {k for k, _ in one.missed} == set(np.flatnonzero(truth & ~named))
        assert {k for k, _ in one.wrong} == set(np.flatnonzero(named & ~truth))
        assert {k for k, _ in one.right} == set(np.flatnonzero(truth & named))


def test_the_page_and_its_twin_name_classes_and_escape_them() -> None:
    found = analyse_labels(predictions())
    page = run_page(RunFacts("run", "folder"), found)
    assert "&lt;b&gt;bee&lt;/b&gt;" in page
    assert "<b>bee</b>" not in page
    data = json.loads(json.dumps(analysis_data(found)))
    assert data["without_images"] == ["dodo"]
    assert {row["class"] for row in data["per_class"]} == set(found.classes)
    assert data["worst"][0]["image"] in found.ids
    assert len(per_class_csv(found).splitlines()) == 1 + K


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_and_no_mistake_make_a_page(count: int) -> None:
    logits = np.full((count, K), 9, np.float32)
    perfect = predictions(count=count, logits=logits, targets=np.ones((count, K), np.float32))
    page = run_page(RunFacts("run", "folder"), analyse_labels(perfect))
    assert "Every label of every image is right." in page
    nothing = predictions(count=count, logits=-logits, targets=np.zeros((count, K), np.float32))
    assert "No image has two of the classes." in run_page(
        RunFacts("run", "folder"), analyse_labels(nothing)
    )
