import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vtrain.errors import CheckpointError
from vtrain.export.proof import Array, Evidence, parts, prove

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (14, 3, 4, 4), np.uint8)
LOGITS = DRAW.normal(size=(14, 6)).astype(np.float32)
EVIDENCE = Evidence(IMAGES, LOGITS, np.where(np.arange(14) < 7, LOGITS.argmax(1), 5))
WHERE = Path("x.onnx")


def answers(images: Array) -> Array:
    """Return the logits of these images, whatever batch they are in."""
    same = (images[:, None] == IMAGES[None]).all((2, 3, 4))  # (B, 14)
    return LOGITS[same.argmax(1)]


def test_batches_of_one_and_five_take_turns_and_leave_nothing_out() -> None:
    for count in (1, 6, 7, 14, 64):
        cut = [list(range(count))[part] for part in parts(count)]
        assert [number for part in cut for number in part] == list(range(count))
        assert {len(part) for part in cut[:2]} == ({1, 5} if count >= 6 else {1})


def test_a_true_copy_differs_by_nothing_and_has_the_models_accuracy() -> None:
    proof = prove(answers, EVIDENCE, WHERE)
    right = float((LOGITS.argmax(1) == EVIDENCE.targets).mean())
    assert (proof.difference, proof.agreement, proof.images) == (0, 1, 14)
    assert proof.accuracy == proof.model_accuracy == right < 1


def test_the_difference_is_in_units_of_the_largest_logit() -> None:
    def off(images: Array) -> Array:
        return answers(images) + np.float32(1e-5)

    expected = 1e-5 / np.abs(LOGITS).max()
    assert prove(off, EVIDENCE, WHERE).difference == pytest.approx(expected, rel=0.05)


def swapped(images: Array) -> Array:
    return answers(images)[:, [1, 0, 2, 3, 4, 5]]


def missing_class(images: Array) -> Array:
    return answers(images)[:, :5]


def not_finite(images: Array) -> Array:
    return answers(images) * np.nan


def frozen(images: Array) -> Array:
    if len(images) != 1:
        raise RuntimeError("Got invalid dimensions for input: images\nmore")
    return answers(images)


def in_another_order(images: Array) -> Array:
    return answers(images)[::-1]


@pytest.mark.parametrize(
    ("runtime", "says"),
    [
        (swapped, "the file is not the model: compared on 14 images"),
        (missing_class, r"logits of shape \(14, 5\), the model \(14, 6\)"),
        (not_finite, "the file is not the model"),
        (frozen, "cannot be asked for 1 and for 5 images: Got invalid dimensions .*images$"),
        (in_another_order, "the file is not the model"),
    ],
)
@pytest.mark.parametrize("tolerance", [1e-4, None])
def test_a_file_that_is_not_the_model_is_refused(
    runtime: Callable[[Array], Array], says: str, tolerance: float | None
) -> None:
    with pytest.raises(CheckpointError) as caught:
        prove(runtime, EVIDENCE, WHERE, tolerance=tolerance, agreement=0.9)
    assert re.search(says, caught.value.what)
    assert caught.value.hint == "nothing was written"
