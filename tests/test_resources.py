import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vtrain.resources import cpu_count, free_memory, machine_memory


def test_this_machine_has_memory_and_cores() -> None:
    assert machine_memory() >= free_memory() > 2**20
    assert cpu_count() >= 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend a machine of twelve cores and 1000 kB of free memory, and its limits."""

    def make(cores: float | None, left: int | None) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
        meminfo = "MemTotal: 2000 kB\nMemAvailable: 1000 kB\n"
        monkeypatch.setattr(Path, "read_text", lambda _: meminfo)
        monkeypatch.setattr("vtrain.resources.cores_allowed", lambda: cores)
        monkeypatch.setattr("vtrain.resources.memory_left", lambda: left)
        monkeypatch.setattr("vtrain.resources.memory_allowed", lambda: 500_000)

    for variable in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    return make


@pytest.mark.parametrize("variable", ["LOCAL_WORLD_SIZE", "WORLD_SIZE"])
def test_processes_share_the_memory_and_cores_of_a_machine(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    machine(None, None)
    monkeypatch.setenv(variable, "4")
    assert cpu_count() == 3
    assert free_memory() == 1000 * 1024 // 4


@pytest.mark.parametrize(("allowed", "cores"), [(None, 12), (2.5, 2), (0.5, 1), (64, 12)])
def test_the_limits_of_a_container_count(
    machine: Callable[..., None], allowed: float | None, cores: int
) -> None:
    machine(allowed, 300_000)
    assert (cpu_count(), free_memory(), machine_memory()) == (cores, 300_000, 500_000)


# Take and give back 64 MiB again and again; every page that is new to the process is a fault.
PROGRAM = """
import resource, sys
import numpy as np
from vtrain.resources import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(1 << 26, dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 26, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Return the page faults of taking the same memory twenty times."""
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's choice")
def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    assert faults("keep") < 100 < faults("leave")


def test_a_folder_that_is_gone_is_refused_before_a_library_ends_the_process(tmp_path: Path) -> None:
    code = (
        "import os; os.rmdir(os.getcwd())\n"
        "import sys; from vtrain.cli import main; sys.argv = ['vtrain', 'models']; main()"
    )
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith("vtrain: error: the current folder cannot be used")


@pytest.mark.parametrize("missing", ["fcntl", "resource"])
@pytest.mark.parametrize("command", ["models", "fit c.yaml", "check c.yaml"])
def test_a_system_without_posix_is_named_in_one_line(missing: str, command: str) -> None:
    """As on Windows; also a system that lacks other modules is told apart from a bug."""
    blocked = (missing, "termios", "pwd", "grp", "tty")
    code = (
        f"import sys; sys.modules |= dict.fromkeys({blocked})\n"
        f"from vtrain.cli import main; sys.argv = ['vtrain', *{command.split()}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 6
    (line,) = done.stderr.splitlines()
    assert f"this system has no {missing}" in line
    assert "WSL" in line
