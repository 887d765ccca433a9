"""Names that no file can have, wherever a command takes a path."""

from pathlib import Path

import pytest

from tests.harness import Vtrain

ENDLESS = "1" * 400


@pytest.mark.parametrize("words", [("predict", ""), ("fit", ""), ("eval", "--ckpt", ""), ("",)])
def test_an_empty_argument_is_not_the_current_folder(
    vtrain: Vtrain, words: tuple[str, ...]
) -> None:
    done = vtrain(*words)
    assert done.code == 2
    assert done.errors == [
        "vtrain: error: an argument is empty (command line): is a variable of the shell not set?"
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("fit", ENDLESS),
        ("fit", "vit_digits", "--run-dir", ENDLESS),
        ("check", ENDLESS),
        ("check", "vit_digits", f"model.pretrained={ENDLESS}"),
        ("check", "vit_digits", "data.name=image_folder", f"data.root=x{ENDLESS}"),
        ("eval", "--ckpt", ENDLESS),
        ("predict", ENDLESS),
        ("report", ENDLESS),
        ("explain", ENDLESS),
        ("export", ENDLESS),
        ("serve", ENDLESS),
        ("verify", ENDLESS),
        ("bench", ENDLESS),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_one_short_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vtrain(*words)
    assert done.code in (2, 3, 4)
    assert len(done.errors) == 1, done.err
    assert "internal error" not in done.err
    assert len(done.errors[0]) < 300
    assert not list(tmp_path.iterdir())
