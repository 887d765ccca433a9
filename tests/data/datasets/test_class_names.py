import unicodedata

import pytest

from vtrain.data.datasets.class_names import class_notes, places, tidy


def test_blanks_around_a_name_and_the_form_of_its_accents_make_no_other_name() -> None:
    forms = [unicodedata.normalize(form, "  café\t\xa0") for form in ("NFC", "NFD")]
    assert {tidy(name) for name in forms} == {"café"}
    assert tidy("polar  bear") == "polar  bear"  # inside, a blank is a letter like others


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (("Cat", "cat"), "case or accents"),
        (("STRASSE", "straße"), "case or accents"),
        (("é", "e\u0301"), "case or accents"),
        (("1", "01"), "how a number is written"),
        (("7", "7.0"), "how a number is written"),
        (("cat", "cat\u200b"), "blanks, invisible or look-alike letters"),
        (("polar bear", "polar  bear"), "blanks, invisible or look-alike letters"),
        (("ABC", "\uff21\uff22\uff23"), "blanks, invisible or look-alike letters"),  # full width
    ],
)
def test_names_that_an_eye_takes_for_one_are_told(names: tuple[str, str], difference: str) -> None:
    (note,) = class_notes(names)
    assert note == f"warning: classes '{names[0]}' and '{names[1]}' differ by {difference} only"


@pytest.mark.parametrize("names", [("cat", "dog"), ("e", "é"), ("1", "10", "2x")])
def test_other_names_are_not(names: tuple[str, ...]) -> None:
    assert class_notes(names) == []


def test_numbers_in_the_order_of_their_text_are_told() -> None:
    assert class_notes(("0", "1", "10", "2")) == [
        "classes are in the order of their names as text: 0, 1, 10, 2, ..."
    ]
    assert class_notes(("00", "01", "10")) == []


def test_classes_are_found_by_name_in_any_form() -> None:
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert places([nfc, "tea"], ["tea", nfd]) == ([1, 0], [])
    assert places([nfd, " tea"], ["tea", nfc]) == ([1, 0], [])
    assert places([nfd, nfc], [nfc, nfd]) == ([1, 0], [])  # where both are known, the very one
    assert places(["tea", "rum", "gin"], ["tea"]) == ([0], ["rum", "gin"])
    assert places(["tea"], ["tea", "tea"]) == ([0], [])
