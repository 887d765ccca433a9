import pytest

from tests.report.cases import facts, random_scores
from vtrain.errors import DataError
from vtrain.report.comparison import Run, compare_runs
from vtrain.report.folds import joined_folds
from vtrain.report.predictions import Predictions


def fold(index: int, of: int = 3, images: range | None = None, **config: object) -> Run:
    """A run of a fold, with predictions of some images of a dataset."""
    chosen = range(10 * index, 10 * index + 10) if images is None else images
    scores = random_scores(len(chosen), 4, seed=index)
    ids = tuple(f"data/{n}.png" for n in chosen)
    classes = tuple("abcd")
    known = Predictions(scores.logits, scores.targets, ids, classes, {"split": "val"})
    content = {"seed": 0, "data": {"fold": {"of": of, "index": index}}, **config}
    counts = dict.fromkeys(classes, 10 * index)
    return Run(facts(f"fold_{index}", config=content, train_counts=counts), known)


def join(runs: list[Run]) -> Run | None:
    return joined_folds(runs, compare_runs(runs))


def test_all_folds_are_joined_to_one_run() -> None:
    whole = join([fold(n) for n in range(3)])
    assert whole is not None
    assert whole.predictions is not None
    assert len(whole.predictions.ids) == 30
    assert whole.facts.notes == []
    assert whole.facts.train_counts == dict.fromkeys("abcd", 10)


def test_folds_that_are_missing_are_named() -> None:
    whole = join([fold(0, 5), fold(3, 5)])
    assert whole is not None
    assert whole.facts.notes == [
        "The figures are not of all images: 3 folds of 5 missing here, number 1, 2, 4."
    ]


def test_what_are_no_folds_of_one_experiment_is_not_joined() -> None:
    whole = Run(facts("whole", config={"seed": 0, "data": {"fold": None}}), fold(1).predictions)
    assert join([fold(0), whole]) is None
    assert join([fold(0, 3), fold(1, 4)]) is None, "of another split into folds"
    assert join([fold(0), fold(1, seed=1)]) is None
    assert join([fold(0), fold(0)]) is None


def test_folds_that_cannot_be_joined_have_a_reason() -> None:
    with pytest.raises(DataError, match="1 fold there are no predictions, first fold_1"):
        join([fold(0), Run(fold(1).facts, None)])
    with pytest.raises(DataError, match="share images"):
        join([fold(0), fold(1, images=range(5, 15))])
