"""Labels of one class an image and of several: what both have, against loops."""

import pytest
import torch

from vtrain.data.datasets.stratified import Fold, hold_out, in_fold
from vtrain.data.labels import (
    classes_present,
    has_several,
    images_per_class,
    label_text,
    refuse_several,
    strata,
)
from vtrain.errors import ConfigError

ONE = torch.tensor([2, 0, 2, 1])
SEVERAL = torch.tensor([[1, 0, 0.6, 0], [0, 0, 1, 0], [1, 0.4, 1, 0], [0, 0, 0, 0]])


def test_several_are_told_by_a_column_for_each_class() -> None:
    assert [has_several(ONE), has_several(SEVERAL)] == [False, True]
    refuse_several(ONE, "this")
    with pytest.raises(ConfigError, match=r"this is for images of one class each .*: do that"):
        refuse_several(SEVERAL, "this", "do that")


def test_images_are_counted_by_class_from_a_half_on() -> None:
    assert images_per_class(ONE, 4).tolist() == [1, 1, 2, 0]
    assert images_per_class(SEVERAL, 4).tolist() == [2, 0, 3, 0]
    assert classes_present(ONE).tolist() == [0, 1, 2]
    assert classes_present(SEVERAL).tolist() == [0, 2]


def test_an_image_stands_for_its_rarest_class() -> None:
    assert strata(ONE) is ONE
    # Class 0 has two images, class 2 three; the last image has none.
    assert strata(SEVERAL).tolist() == [0, 2, 0, 4]


def test_strata_equal_a_loop_over_images() -> None:
    draw = torch.Generator().manual_seed(0)
    targets = (torch.rand(200, 7, generator=draw) < torch.linspace(0.02, 0.7, 7)).float()
    counts = targets.sum(0).tolist()
    for row, group in zip(targets.tolist(), strata(targets).tolist(), strict=True):
        present = [k for k in range(7) if row[k]]
        assert group == min(present, key=lambda k: (counts[k], k), default=7)


def test_a_rare_class_is_in_both_parts_of_a_split() -> None:
    draw = torch.Generator().manual_seed(1)
    common = torch.rand(400, 2, generator=draw) < 0.5
    rare = torch.zeros(400, 1, dtype=torch.bool)
    rare[:10] = True
    targets = torch.cat([common, rare], 1).float()
    chosen = hold_out(strata(targets), 0.2)
    assert 1 <= targets[chosen, 2].sum() <= 3  # a fifth of ten, give or take one
    parts = [in_fold(strata(targets), Fold(of=5, index=k)) for k in range(5)]
    assert {int(targets[part, 2].sum()) for part in parts} == {2}


def test_labels_have_names() -> None:
    names = ("a", "b", "c", "d")
    assert label_text(ONE[0], names) == "c"
    assert [label_text(row, names) for row in SEVERAL] == ["a + c", "c", "a + c", "no label"]
