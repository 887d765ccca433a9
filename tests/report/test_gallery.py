import numpy as np
import pytest

from tests.report.cases import CASES, random_scores
from vtrain.report.gallery import most_typical, right_but_unsure, sure_and_wrong
from vtrain.report.scores import Scores


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_galleries_hold_what_they_say_in_order(scores: Scores) -> None:
    wrong = sure_and_wrong(scores, 10)
    assert len(wrong) == min(10, int((~scores.correct).sum()))
    assert all(e.true_rank > 1 and e.likeliest[0][0] != e.true for e in wrong)
    sure = [e.likeliest[0][1] for e in wrong]
    assert sure == sorted(sure, reverse=True)
    right = right_but_unsure(scores, 10)
    assert len(right) == min(10, int(scores.correct.sum()))
    assert all(e.true_rank == 1 and e.likeliest[0][0] == e.true for e in right)
    assert [e.true_probability for e in right] == sorted(e.true_probability for e in right)


def test_examples_say_what_the_softmax_says() -> None:
    scores = random_scores(50, 6)
    logits = scores.logits.astype(np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for example in sure_and_wrong(scores, 50):
        row = probs[example.index]
        assert example.true_probability == pytest.approx(row[example.true])
        assert example.true_rank == 1 + (row > row[example.true]).sum()
        assert [k for k, _ in example.likeliest] == np.argsort(-row)[:3].tolist()
        assert [p for _, p in example.likeliest] == pytest.approx(np.sort(row)[::-1][:3])


def test_the_most_typical_are_the_surest_of_their_class() -> None:
    scores = CASES["class without images"]
    chosen = most_typical(scores, range(7), 2)
    assert [e.true for e in chosen] == [0, 0, 1, 1, 2, 2, 4, 4, 5, 5, 6, 6]
    for label in (0, 6):
        right = scores.correct & (scores.targets == label)
        best = scores.probs[right, label].max()
        first = next(e for e in chosen if e.true == label)
        assert first.true_probability == pytest.approx(best)


def test_with_two_classes_two_are_named() -> None:
    (example,) = right_but_unsure(CASES["two classes"], 1)
    assert len(example.likeliest) == 2
