import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from vtrain.data.inspect import lettering
from vtrain.data.inspect.lettering import draw_line, font_of, runs


def drawn(text: str) -> np.ndarray:
    sheet = Image.new("L", (200, 16), 255)
    draw_line(ImageDraw.Draw(sheet), 2, 1, text, 11)
    return np.asarray(sheet)


@pytest.fixture
def own_font_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any fonts but the one that matplotlib brings."""
    own = lettering._fonts()[:1]
    monkeypatch.setattr(lettering, "_fonts", lambda: own)
    lettering.font_of.cache_clear()


@pytest.mark.usefixtures("own_font_alone")
@pytest.mark.parametrize("text", ["äöüß", "Кошка", "γάτα", "žluť", "école", "Łódź"])
def test_letters_of_many_scripts_are_all_drawn_and_differ(text: str) -> None:
    ((path, piece),) = runs(text)
    assert (path, piece) == (font_of(text[0]), text)
    pictures = {drawn(letter).tobytes() for letter in text}
    assert len(pictures) == len(set(text))
    assert drawn("\uffff").tobytes() not in pictures


@pytest.mark.usefixtures("own_font_alone")
def test_what_no_font_has_is_written_by_its_number() -> None:
    assert "".join(piece for _, piece in runs("0.70 猫 \U00013000")) == "0.70 \\u732b \\U00013000"
    assert (drawn("猫") != drawn("狗")).any()


@pytest.mark.usefixtures("own_font_alone")
def test_what_is_written_from_the_right_needs_a_layout_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "check", lambda name: True)
    assert font_of("ق") is not None
    lettering.font_of.cache_clear()
    monkeypatch.setattr(features, "check", lambda name: name != "fribidi")
    assert "".join(piece for _, piece in runs("قط")) == "\\u0642\\u0637"
    lettering.font_of.cache_clear()


@pytest.mark.usefixtures("own_font_alone")
def test_an_accent_of_its_own_stays_with_its_letter() -> None:
    ((_, piece),) = runs(unicodedata.normalize("NFD", "école"))
    assert unicodedata.normalize("NFC", piece) == "école"


def test_a_control_character_is_escaped() -> None:
    assert (drawn("a\x07b") == drawn("a\\x07b")).all()


def test_letters_of_ascii_are_drawn_as_before_without_looking_for_fonts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lettering, "runs", None)
    assert (drawn("0.70 cat") < 128).any()
