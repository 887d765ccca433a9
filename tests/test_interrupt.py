"""Outside of training a stop signal ends the process at once, and leaves nothing half-made."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vtrain.interrupt import STOP_SIGNALS

READY = """
import os, sys, time
from pathlib import Path
from vtrain.interrupt import end_at_once, undone_by_signal
end_at_once()
def ready():
    print("ready", flush=True)
    time.sleep(60)
"""


def interrupted(
    code: str, *numbers: int, folder: Path = Path(), shell: str = ""
) -> tuple[int, str]:
    """Send signals to a program once it says that it is ready: its exit code and stderr."""
    command = ["bash", "-c", f'{shell} exec "$@"', "bash", sys.executable, "-c", READY + code]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        return process.returncode, err


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_it_is_one_line_and_the_signals_exit_code(number: signal.Signals) -> None:
    code, err = interrupted("ready()", number)
    assert code == 128 + number
    assert err == "vtrain: stopped at once; what was saved before is intact\n"


@pytest.mark.parametrize(
    "swallow",
    [
        "try: ready()\nexcept BaseException: time.sleep(60)",
        "class C:\n    def __del__(self): ready()\nC()\ntime.sleep(60)",
        "import atexit; atexit.register(time.sleep, 60); ready()",
        "import threading; threading.Thread(target=time.sleep, args=(60,)).start(); ready()",
    ],
)
def test_nothing_can_swallow_it_or_hold_it_up(swallow: str) -> None:
    assert interrupted(swallow, signal.SIGINT)[0] == 130


def test_what_is_half_made_is_removed_the_newest_first_also_after_a_second_ctrl_c(
    tmp_path: Path,
) -> None:
    code = """
def undo(name):
    def undone(number):
        time.sleep(0.05)
        with open("undone", "a") as file: file.write(f"{name} {number} ")
        raise RuntimeError("no reason to leave out the others")
    return undone
with undone_by_signal(undo("outer")):
    with undone_by_signal(undo("over")): pass
    with undone_by_signal(undo("inner")): ready()
"""
    code, _ = interrupted(code, signal.SIGINT, signal.SIGINT, signal.SIGTERM, folder=tmp_path)
    assert code in (130, 143)  # two that are pending are handled in the order of their numbers
    assert (tmp_path / "undone").read_text() == f"inner {code - 128} outer {code - 128} "


def test_a_file_that_is_being_written_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("before")
    code = """
from vtrain.files.atomic import replacing
with replacing(Path("mine")) as file:
    file.write(b"after")
    assert len(os.listdir()) == 2
    ready()
"""
    assert interrupted(code, signal.SIGTERM, folder=tmp_path)[0] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "before"


def test_a_folder_that_is_being_filled_is_taken_away(tmp_path: Path) -> None:
    code = """
from vtrain.files.atomic import scratch_folder
with scratch_folder(Path("model.onnx")) as folder:
    (folder / "weights").touch()
    ready()
"""
    assert interrupted(code, signal.SIGTERM, folder=tmp_path)[0] == 143
    assert list(tmp_path.iterdir()) == []


def test_a_signal_waits_where_it_is_held_back() -> None:
    code = """
from vtrain.interrupt import held_back
with held_back():
    print("ready", flush=True)
    time.sleep(0.2)
    print("the block is over", file=sys.stderr)
print("not beyond it", file=sys.stderr)
"""
    code, err = interrupted(code, signal.SIGINT)
    assert code == 130
    assert err.splitlines()[0] == "the block is over"
    assert "beyond" not in err


def test_a_forked_worker_undoes_nothing_and_says_nothing(tmp_path: Path) -> None:
    code = """
Path("half").touch()
with undone_by_signal(lambda _: Path("half").unlink()):
    child = os.fork()
    if child == 0: time.sleep(60)
    time.sleep(0.1)
    os.kill(child, 15)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    print("ready", flush=True)
"""
    assert interrupted(code, folder=tmp_path) == (0, "")
    assert (tmp_path / "half").exists()


def test_nohup_keeps_its_word_and_ctrl_c_works_also_in_the_background() -> None:
    ignore = "trap '' HUP INT;"
    assert interrupted("ready()", signal.SIGHUP, signal.SIGTERM, shell=ignore)[0] == 143
    assert interrupted("ready()", signal.SIGINT, shell=ignore)[0] == 130


def test_while_training_a_second_ctrl_c_ends_it_at_once() -> None:
    code = """
from vtrain.engine.stop import StopSignals
with StopSignals() as signals:
    while signals.received is None: print("ready", flush=True); time.sleep(0.1)
    os.kill(os.getpid(), 2)
    print("still here", file=sys.stderr)
"""
    code, err = interrupted(code, signal.SIGINT)
    assert code == 130
    assert err == "vtrain: stopped at once; what was saved before is intact\n"
