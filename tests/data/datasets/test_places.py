import math
import random
import unicodedata

import pytest
import torch

from vtrain.data.datasets.places import places

RANDOM = [f"a/{random.Random(i).getrandbits(64):x}.jpg" for i in range(40_000)]


def test_a_place_is_of_the_name_alone() -> None:
    names = ["a/1.png", "a/IMG_0007.jpg", "b/x.png", "", "a/" + "9" * 5000, "\udcff.png"]
    together = places(names)
    assert together.tolist() == [places([name]).item() for name in names]
    assert together.tolist() == places(names[::-1]).tolist()[::-1]
    assert ((together >= 0) & (together < 1)).all()
    assert len(set(together.tolist())) == len(names)


def test_neither_the_format_nor_the_form_of_accents_moves_an_image() -> None:
    forms = [unicodedata.normalize(form, "café/é 1") for form in ("NFC", "NFD")]
    first, *others = places([f"{form}.{end}" for form in forms for end in ("png", "jpeg")])
    assert all(other == first for other in others)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 1 / 3, 0.5])
def test_classes_of_any_names_give_their_share_with_the_spread_of_a_coin(fraction: float) -> None:
    """The price that the documentation names, measured on 400 classes of 100 images."""
    held_out = (places(RANDOM) < fraction).view(400, 100).sum(1).double()
    spread = math.sqrt(100 * fraction * (1 - fraction))
    # The mean of 400 has a 20th of the spread; the spread itself is known to 1 / sqrt(800).
    assert held_out.mean().item() == pytest.approx(100 * fraction, abs=4 * spread / 20)
    assert held_out.std().item() == pytest.approx(spread, rel=4 / math.sqrt(800))


@pytest.mark.parametrize("first", [0, 10, 340, 4710])
def test_of_ten_numbers_in_a_row_each_tenth_has_one(first: int) -> None:
    for row in ("cat/", "cat/IMG_", "dog/2024 03/"):
        place = places([f"{row}{n:04}.jpg" for n in range(first, first + 10)])
        assert (10 * place).long().sort().values.tolist() == list(range(10))


def test_of_a_hundred_in_a_row_each_hundredth_has_one() -> None:
    place = places([f"cat/{n}.jpg" for n in range(300, 400)])
    assert (100 * place).long().sort().values.tolist() == list(range(100))
    spread = torch.stack(
        [(places([f"{k}/{n}.jpg" for n in range(1, 61)]) < 0.2) for k in "abcdefgh"]
    )
    assert (spread.sum(1) - 12).abs().max() <= 2  # only the ends of the row are left to chance


def test_every_tenth_number_is_as_good_as_any_name() -> None:
    """As the pictures of a film are numbered: their places must not be the same digits."""
    held_out = torch.stack(
        [(places([f"{k}/{n}0.jpg" for n in range(200)]) < 0.1).sum() for k in range(40)]
    )
    assert held_out.double().mean().item() == pytest.approx(20, abs=4 * math.sqrt(18 / 40))
    assert held_out.max() < 20 + 6 * math.sqrt(18)
