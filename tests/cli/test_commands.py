"""What is typed before any command runs: help, version, completion, and what is no command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import vtrain as package
from tests.harness import Vtrain
from vtrain.cli.commands import COMMANDS
from vtrain.cli.group import PEERS_WORDS

NAMES = [name for members in COMMANDS.values() for name in members]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--debug"]])
def test_the_bare_command_prints_the_help(vtrain: Vtrain, arguments: list[str]) -> None:
    done = vtrain(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out == vtrain("--help").out


def test_every_command_has_help_for_both_spellings(vtrain: Vtrain) -> None:
    for name in NAMES:
        done = vtrain(name, "-h")
        assert (done.code, done.err) == (0, "")
        assert done.out == vtrain(name, "--help").out
        assert f"vtrain {name}" in done.out


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("fit", "vtrain fit [OPTIONS] CONFIG [KEY=VALUE]..."),
        ("predict", "vtrain predict [OPTIONS] IMAGE..."),
        ("models", "vtrain models [OPTIONS] [PATTERN]"),
    ],
)
def test_help_has_no_types_of_the_program(vtrain: Vtrain, name: str, usage: str) -> None:
    text = vtrain(name, "-h").out
    assert text.splitlines()[0] == f"Usage: {usage}"
    assert not re.search(r"<(list|path|int|float|str)|[{}]", text)


def test_the_version_is_the_package_s(vtrain: Vtrain) -> None:
    done = vtrain("--version")
    assert (done.code, done.out, done.err) == (0, f"vtrain {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("train", "did you mean `vtrain fit`?"),
        ("Train", "did you mean `vtrain fit`?"),
        ("val", "did you mean `vtrain eval`?"),
        ("test", "did you mean `vtrain eval`?"),
        ("validate", "did you mean `vtrain eval`?"),
        ("infer", "did you mean `vtrain predict`?"),
        ("classify", "did you mean `vtrain predict`?"),
        ("predcit", "did you mean `vtrain predict`?"),
        ("list", "did you mean `vtrain models`?"),
        ("fti", "did you mean `vtrain fit`?"),
        ("tsne", "did you mean `vtrain explain`?"),
        ("init", "did you mean `vtrain recipes`?"),
        ("hlep", "write vtrain --help"),
        ("clean", "a run is a folder: remove it as any other"),
        ("tensorboard", "it is a program of its own: tensorboard --logdir runs"),
        ("resume", "to go on with a run write vtrain fit RUN --resume"),
        ("help", "write vtrain --help"),
        ("c.yaml", "did you mean `vtrain fit c.yaml`?"),
        ("x.JPG", "did you mean `vtrain predict x.JPG`?"),
        ("frobnicate", f"choose one of {', '.join(NAMES)}; see vtrain --help"),
    ],
)
def test_what_is_no_command_is_answered_with_one(vtrain: Vtrain, typed: str, hint: str) -> None:
    done = vtrain(typed)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"vtrain: error: No such command '{typed}' (command line): {hint}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train", "c.yaml", "train.epochs=1"], "vtrain fit c.yaml train.epochs=1"),
        (["train", "my photos"], "vtrain fit 'my photos'"),
        (["resume", "runs/a"], "vtrain fit runs/a --resume"),
        (["x.jpg", "--ckpt", "run"], "vtrain predict x.jpg --ckpt run"),
        (["test", "runs/a"], "vtrain eval"),  # a model is an option there
        (["train", "x" * 500], "vtrain fit"),
    ],
)
def test_a_wrong_command_is_answered_with_all_that_was_typed(
    vtrain: Vtrain, typed: list[str], meant: str
) -> None:
    line = vtrain(*typed).err
    assert line.endswith((f"did you mean `{meant}`?\n", f"write {meant}\n"))


def test_an_option_of_another_program_names_the_config(vtrain: Vtrain) -> None:
    done = vtrain("fit", "vit_digits", "--gpus", "2")
    assert "torchrun --nproc-per-node=N --no-python vtrain fit vit_digits; see" in done.err


def test_no_command_is_another_s_word() -> None:
    words = [word for text in PEERS_WORDS.values() for word in text.split()]
    assert len(words) == len(set(words))
    assert not set(words) & {*PEERS_WORDS, *NAMES}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["verify"], "Missing argument 'RUN_DIR|CKPT' (command line): see vtrain verify --help"),
        (["fit"], "Missing argument 'CONFIG' (command line): see vtrain fit --help"),
        (["predict", "--ckpt"], "requires an argument (command line): see vtrain predict --help"),
        (["-help"], "No such option: -help (command line): did you mean --help?"),
        (["fit", "-help"], "No such option: -help (command line): did you mean --help?"),
        (["-version"], "No such option: -version (command line): did you mean --version?"),
        (["--nope"], "No such option: --nope (command line): see vtrain --help"),
        (["fit", "x.yaml", "--lr", "1"], "(command line): write optimizer.lr=VALUE, without"),
        (["fit", "x.yaml", "--batch-size", "1"], "(command line): write train.batch_size=VALUE,"),
        (["fit", "x.yaml", "-epochs", "1"], "option: -epochs (command line): write train.epochs="),
        (["fit", "x.yaml", "--nproc-per-node", "2"], "torchrun --nproc-per-node=N --no-python"),
        (["fit", "x.yaml", "--gpus", "2"], "torchrun --nproc-per-node=N --no-python vtrain fit"),
        (["eval", "--ckpt", "hf-hub:timm/x"], "other programs' weights begin a run: fit CONFIG"),
        (["predict", "x.png", "--lr", "1"], "see vtrain predict --help"),
    ],
)
def test_a_wrong_option_points_to_the_help_of_its_command(
    vtrain: Vtrain, arguments: list[str], line: str
) -> None:
    done = vtrain(*arguments)
    assert (done.code, done.out) == (2, "")
    assert line in done.err
    assert done.err.count("\n") == 1


def complete(words: str, **environment: str) -> str:
    given = {"_VTRAIN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "vtrain"],
        capture_output=True,
        text=True,
        env={**os.environ, **given, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_shell_completes_commands_and_options() -> None:
    assert complete("vtrain pre").split() == ["predict"]
    assert complete("vtrain fit --re", COMP_CWORD="2").split() == ["--resume"]


def test_paths_may_begin_with_the_home_folder(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell replaces the `~` of `--run-dir=~/run`."""
    home = small_run.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    Image.new("RGB", (20, 30)).save(home / "x.png")
    assert vtrain("fit", small_run, "--run-dir=~/run", "train.max_steps=1").code == 0
    assert (home / "run" / "best.pt").is_file()
    predict = ("predict", "~/x.png", "~/*.png", "--ckpt=~/run", "--output=~/out.txt")
    assert vtrain(*predict).code == 0
    assert (home / "out.txt").is_file()
    assert not (small_run.parent / "~").exists()


def test_the_help_of_fit_says_how_several_processes_start(vtrain: Vtrain) -> None:
    said = " ".join(vtrain("fit", "--help").out.split())
    assert "torchrun --nproc-per-node=N --no-python vtrain fit CONFIG" in said
