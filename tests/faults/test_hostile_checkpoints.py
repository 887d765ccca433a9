"""Every file of the corpus is refused in one line, runs nothing, and takes little memory."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.faults import corpus, product, running
from tests.harness import Vtrain, fork
from vtrain.errors import CheckpointError
from vtrain.files.container import load_checkpoint

MEGABYTE = 1 << 20


def built(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a file of the corpus; return it and the file that it would make."""
    path, canary = folder / "hostile.pt", folder / "canary"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is planted on purpose
        path.write_bytes(corpus.CORPUS[name](canary))
    return path, canary


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("name", corpus.CORPUS)
def test_a_hostile_file_is_refused_in_one_line_and_runs_nothing(name: str, tmp_path: Path) -> None:
    path, canary = built(name, tmp_path)
    before, modules, memory = path.read_bytes(), set(sys.modules), peak_memory()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    (line,) = caught.value.lines()
    assert line.isprintable()
    assert len(line) < 200 + len(str(path))
    assert "weights_only" not in line
    assert not canary.exists()
    assert "antigravity" not in set(sys.modules) - modules
    assert path.read_bytes() == before
    assert peak_memory() - memory < 2 * len(before) + 300 * MEGABYTE


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was killed at step 8."""
    folder = tmp_path_factory.mktemp("stopped")
    ended = running.fit(folder, folder / "run", prepare=running.dying_after(8)).wait()
    assert ended.code == 128 + signal.SIGKILL, ended.err
    return folder / "run"


EXAMPLES = (
    *("os_system", "html_login_page", "deflated_bomb", "torchscript"),
    "tensor_of_a_terabyte_by_stride_zero",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in EXAMPLES else pytest.mark.slow) for n in corpus.CORPUS],
)
def test_every_command_refuses_it_with_exit_code_4_and_loses_nothing(
    name: str, tmp_path: Path, stopped: Path, vtrain: Vtrain
) -> None:
    path, canary = built(name, tmp_path)
    config, run_dir = product.fault_config(tmp_path), tmp_path / "run"
    shutil.copytree(stopped, run_dir)
    newer = run_dir / "step-00000009.pt"
    shutil.copy(path, newer)
    intact = {file.name: file.read_bytes() for file in run_dir.glob("step-0000000[0-8].pt")}
    for command in (
        ("eval", "--ckpt", path),
        ("check", config, f"model.pretrained={path}"),
    ):
        ended = vtrain(*command)
        (line,) = ended.errors
        assert (ended.code, line.isprintable(), "hostile.pt" in line) == (4, True, True), ended.err
        assert "Traceback" not in ended.err
    resumed = running.fit(tmp_path, run_dir, "train.max_steps=8").wait()
    if resumed.code != 0:  # every byte is as it was written, but not by a run of this vtrain
        (line,) = resumed.errors
        assert (resumed.code, newer.name in line) == (4, True), resumed.err
    else:
        assert "skipped a checkpoint" in resumed.err
    assert "Traceback" not in resumed.err
    assert {name: (run_dir / name).read_bytes() for name in intact} == intact
    assert not canary.exists()


# The call or the opcode makes the canary if somebody unpickles the file carelessly.
SHARP = [
    *("os_system", "posix_system", "os_mkdir", "subprocess_popen", "subprocess_check_output"),
    *("eval", "exec", "open_for_writing", "io_open", "io_fileio", "cprofile"),
    *("shutil_copy", "reduce_by_torch_save", "instance_opcode", "object_opcode"),
    *("bare_pickle", *(f"os_system_protocol_{n}" for n in (0, 1, 3, 4, 5))),
]


@pytest.mark.parametrize("name", SHARP)
def test_the_corpus_is_sharp(name: str, tmp_path: Path) -> None:
    path, canary = built(name, tmp_path)
    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(BytesIO(content)) as packed:
            (program,) = [n for n in packed.namelist() if n.endswith("/data.pkl")]
            content = packed.read(program)
    worker = fork()
    if worker == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            pickle.loads(content)
        finally:
            os._exit(0)
    os.waitpid(worker, 0)
    for _ in range(100):  # a started process may take a moment
        if canary.exists():
            break
        subprocess.run(["sleep", "0.02"])
    assert canary.exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_process_and_no_connection_is_started(tmp_path: Path) -> None:
    for name in corpus.CORPUS:
        path, _ = built(name, tmp_path)
        path.rename(tmp_path / f"{name}.pt")
    program = f"""
import sys
from pathlib import Path
import torch
from vtrain.errors import CheckpointError
from vtrain.files.container import load_checkpoint
files = sorted(Path({str(tmp_path)!r}).glob("*.pt"))
Path({str(tmp_path / "begin")!r}).touch()
for path in files:
    try:
        load_checkpoint(path)
    except CheckpointError:
        continue
    sys.exit(str(path))
Path({str(tmp_path / "end")!r}).touch()
"""
    trace = tmp_path / "trace"
    calls = "execve,execveat,fork,vfork,connect,bind,unlink,rename,mkdir,openat,creat"
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={calls}", sys.executable, "-c"]
    ended = subprocess.run([*command, program], capture_output=True, text=True, timeout=240)
    if "Operation not permitted" in ended.stderr:
        pytest.skip("strace may not trace here")
    assert ended.returncode == 0, ended.stderr
    lines = trace.read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if str(tmp_path / "begin") in line)
    end = next(n for n, line in enumerate(lines) if str(tmp_path / "end") in line)
    reads = re.compile(r"\d+ +openat\((?!.*O_(WRONLY|RDWR|CREAT))")
    done = lines[begin + 1 : end]
    assert len(done) >= len(corpus.CORPUS)
    assert [line for line in done if not reads.match(line)] == []
