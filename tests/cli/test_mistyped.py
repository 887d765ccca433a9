"""What a command line is answered with that a shell, an editor or another program has shaped."""

import shlex
from pathlib import Path

import pytest

from tests.harness import Vtrain
from vtrain.cli.mistyped import torn_or_typeset


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "My Photos").mkdir()
    (tmp_path / "My old Photos").mkdir()
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("My Photos", "'My Photos'"),
        ("My old Photos train.epochs=1", "'My old Photos'"),
        ("c.yaml data.root=My Photos", "data.root='My Photos'"),
        ("d --run-dir x data.root=My Photos --resume", "data.root='My Photos'"),
    ],
)
def test_a_name_that_a_shell_has_cut_is_shown_in_quotes(words: str, hint: str) -> None:
    found = torn_or_typeset(words.split())
    assert found is not None
    assert found.hint == f"write it in quotes: {hint}"


@pytest.mark.parametrize("words", ["d", "d train.epochs=1", "Your Photos", "d Photos", ""])
def test_other_words_are_left_to_who_reads_them(words: str) -> None:
    assert torn_or_typeset(words.split()) is None


def test_what_is_there_was_meant_as_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / "\u201cd\u201d").mkdir()
    assert torn_or_typeset(["\u201cd\u201d", "data.root=\u201cd\u201d"]) is None


def test_a_cut_name_is_said_by_every_command(vtrain: Vtrain) -> None:
    for command in ("fit", "check", "bench", "predict", "eval", "verify", "report"):
        done = vtrain(command, "My", "Photos")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "vtrain: error: a shell cuts 'My Photos' at its blanks (command line): "
            "write it in quotes: 'My Photos'\n"
        )


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("\u2014resume", "did you mean --resume?"),
        ("\u2013-run-dir", "did you mean --run-dir?"),
        ("data.root=\u201cd\u201d", "write ' or \" around a name"),
    ],
)
def test_dashes_and_quotes_of_an_editor_are_named(vtrain: Vtrain, word: str, hint: str) -> None:
    done = vtrain("fit", "vit_digits", word)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert hint in done.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("eval --per-class", "`vtrain report RUN` shows that"),
        ("predict x.png --confusion-matrix", "`vtrain report RUN` shows that"),
        ("eval --top-k 3", "it is an option of vtrain predict; see vtrain eval --help"),
        ("predict x.png --split val", "it is an option of vtrain eval; see"),
        ("check vit_digits --resume", "it is an option of vtrain fit; see"),
        ("check vit_digits --run-dir x", "it is an option of vtrain fit; see"),
        ("fit vit_digits --ckpt x", "write model.pretrained=CKPT"),
        ("fit vit_digits --output x", "as --run-dir DIR"),
        ("report run --json", "write --format json"),
        ("eval --format json", "write --json"),
        ("predict x.png --device cpu", "a GPU is taken where there is one"),
        ("eval --device cpu", "write train.device=VALUE, without dashes"),
        ("report run --outptu x", "--output"),
    ],
)
def test_an_option_that_a_command_lacks_is_answered(vtrain: Vtrain, typed: str, hint: str) -> None:
    done = vtrain(*typed.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert hint in done.err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("fit small.yaml data=photos", "did you mean data.root=photos?"),
        ("fit data=photos epochs=3", "the config comes first, or a folder of images"),
        ("fit small.yaml photos", "did you mean data.root=photos?"),
        ("photos", "did you mean `vtrain fit photos`?"),
        ("fit small.yaml 'train.epochs = five'", 'train.epochs is "five"'),
        ("fit small.yaml optimizer.lr=0,001", "write a point for the comma, 0.001"),
        ("fit https://example.org/c.yaml", "only local configs are read"),
    ],
)
@pytest.mark.usefixtures("small_run")
def test_what_other_programs_and_keyboards_write_is_answered(
    vtrain: Vtrain, typed: str, hint: str
) -> None:
    Path("photos").mkdir()
    done = vtrain(*shlex.split(typed))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert hint in done.err
