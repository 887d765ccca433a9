"""A result that cannot be written is said once, a word for a person that cannot is no error."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vtrain import screen
from vtrain.errors import StorageError

PREPARED = """
import os, sys
from vtrain import screen
from vtrain.errors import StorageError
screen.prepare()
"""


def program(code: str, shell: str = '"$@"', **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code behind prepared streams; `shell` may redirect them."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "-c", PREPARED + code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ('"$@" > /dev/full', "no space to write the result: No space left on device"),
        ('"$@" >&-', "standard output is closed"),
    ],
)
@pytest.mark.parametrize("text", ["x", "x" * 100_000])
def test_a_result_that_cannot_be_written_is_an_error_of_storage_said_once(
    shell: str, says: str, text: str
) -> None:
    code = f"""
try: screen.result({text!r})
except StorageError as error: print(error, file=sys.stderr); sys.exit(5)
"""
    done = program(code, shell)
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()  # Python has nothing to add at its end
    assert line.startswith(says)


def test_a_reader_that_left_is_told_apart_from_every_other_broken_pipe() -> None:
    code = """
try:
    for _ in range(100_000): screen.result("line")
except screen.ReaderLeftError: sys.exit(7)
"""
    done = program(code, '"$@" | head -n 1; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stdout, done.stderr) == (7, "line\n", "")
    assert not issubclass(screen.ReaderLeftError, OSError)


@pytest.mark.parametrize("shell", ['"$@" 2> /dev/full', '"$@" 2>&-', '"$@" 2> >(true)'])
def test_nothing_that_is_written_for_a_person_is_an_error(shell: str) -> None:
    code = """
import logging, time, warnings
from tqdm import tqdm
from vtrain.run.logs import to_console
to_console()
for _ in range(20):
    screen.words("a word")
    print("printed", file=sys.stderr)
    logging.getLogger("vtrain.x").warning("logged")
    warnings.warn("warned")
    for _ in tqdm(range(3)): pass
    time.sleep(0.005)
screen.result("done")
"""
    done = program(code, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_no_file_gets_the_number_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = f"""
file = open({str(tmp_path / "checkpoint")!r}, "w")
assert file.fileno() > 2, file.fileno()
os.write(2, b"a warning of a library in C")
"""
    assert program(code, '"$@" <&- >&- 2>&-').returncode == 0
    assert (tmp_path / "checkpoint").read_text() == ""


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", "\\xfc \\u732b"),
        ("latin-1:strict", "\xfc \\u732b"),
        ("cp1252", "\xfc \\u732b"),
        ("utf-8:strict", "\xfc \u732b"),
    ],
)
def test_a_name_that_the_encoding_cannot_say_is_escaped_and_that_is_said(
    encoding: str, written: str
) -> None:
    code = 'screen.result("\\xfc \\u732b")'
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0
    assert done.stdout.decode(encoding.partition(":")[0]) == written + "\n"
    assert (b"which lacks" in done.stderr) == ("\\" in written)


def test_a_name_that_is_no_text_is_not_blamed_on_the_encoding_and_is_told_once() -> None:
    code = 'screen.result("a\\udcff"); screen.result("b\\udcfe")'
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout == b"a\\udcff\nb\\udcfe\n"
    assert done.stderr.count(b"no text in UTF-8") == 1
    assert b"PYTHONUTF8" not in done.stderr


def test_a_file_name_that_is_no_text_is_escaped_on_both_streams() -> None:
    done = program('screen.result("\\udcff"); screen.words("\\udcff")', PYTHONUTF8="1")
    assert done.returncode == 0
    assert done.stdout == "\\udcff\n"
    assert done.stderr.splitlines()[-1] == "\\udcff"


def test_a_stream_of_a_test_or_a_notebook_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sys.stdout, sys.stderr
    screen.prepare()
    assert (sys.stdout, sys.stderr) == before
    screen.result("a\n")
    screen.result("b")
    screen.words("c")
    assert tuple(capsys.readouterr()) == ("a\nb\n", "c\n")


def test_streams_are_prepared_once() -> None:
    assert program("first = sys.stdout; screen.prepare(); assert sys.stdout is first").stderr == ""


def test_an_unbuffered_stream_is_checked_too() -> None:
    done = program('screen.result("x")', '"$@" > /dev/full', PYTHONUNBUFFERED="1")
    assert StorageError.__name__ in done.stderr


@pytest.mark.parametrize(
    ("shell", "expected"),
    [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)],
    ids=["no shell", "IPython on a terminal", "a notebook"],
)
def test_a_notebook_shows_bars_and_a_file_does_not(
    shell: object, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert screen.shows_bars(io.StringIO()) is expected
    monkeypatch.delitem(sys.modules, "IPython")
    assert not screen.shows_bars(io.StringIO())


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_break_between_words_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    row = "data    fake, 4 classes, 70 training and 70 validation images"
    assert screen.fitted(row, io.StringIO()) == row
    lines = screen.fitted(row, Terminal(), hanging=8).split("\n")
    assert " ".join(" ".join(lines).split()) == " ".join(row.split())
    assert all(len(line) <= 30 for line in lines)
    assert all(line.startswith(" " * 8) for line in lines[1:])
    word = "x" * 50  # is for the terminal to break, so that it can be copied
    assert screen.fitted(f"run     {word}", Terminal(), hanging=8).split() == ["run", word]


@pytest.mark.parametrize(("given", "columns"), [("50", 50), ("x", 80), ("0", 80)])
def test_a_terminal_that_does_not_know_its_width_has_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, given: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    monkeypatch.setattr("shutil.get_terminal_size", lambda **_: os.terminal_size((0, 0)))
    assert screen.width(Terminal()) == columns
    assert screen.width(io.StringIO()) == sys.maxsize
