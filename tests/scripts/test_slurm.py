"""The example job of Slurm, with stand-ins for the cluster's own commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.base_configs import LONG_RUN

pytestmark = pytest.mark.dist

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm.sh"
STAND_INS = {
    "srun": 'shift; exec "$@"',
    "scontrol": 'case "$1" in show) echo localhost ;; requeue) echo "$2" >> requeued ;; esac',
    "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    "vtrain": f'exec {sys.executable} -m vtrain "$@"',
}


def job(folder: Path) -> "subprocess.Popen[str]":
    slurm = {"JOB_ID": "7", "JOB_NODELIST": "localhost", "NNODES": "1", "GPUS_ON_NODE": "2"}
    env = {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in slurm.items()},
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        ["bash", SCRIPT, "small.yaml", "seed=1"],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_job_that_is_warned_saves_queues_itself_again_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, command in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "small.yaml").write_text(LONG_RUN)
    run = tmp_path / "runs/slurm/small_7"

    first = job(tmp_path)
    deadline = time.monotonic() + 100
    while not (run / "last.pt").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    first.send_signal(signal.SIGUSR1)
    error = first.communicate(timeout=100)[1]
    assert first.returncode == 0, error
    assert (tmp_path / "requeued").read_text() == "7\n"
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["code"]) == ("stopped", 128 + signal.SIGUSR1)

    second = job(tmp_path)
    error = second.communicate(timeout=150)[1]
    assert second.returncode == 0, error
    assert "resume  step-" in error
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["step"]) == ("finished", 160)
    assert (tmp_path / "requeued").read_text() == "7\n"
