"""`scripts/environment`, which the other scripts source."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("line", "what"), [(". scripts/environment", "."), (". scripts/environment dev", ".[dev]")]
)
def test_arguments_of_the_script_that_sources_it_are_no_extra(
    tmp_path: Path, line: str, what: str
) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy("scripts/environment", tmp_path / "scripts")
    shutil.copy("pyproject.toml", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >> asked.txt\n')
    python.chmod(0o755)
    (tmp_path / "uv").symlink_to(python)  # whichever installs, the stand-in is asked
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", line, "script", "configs/x.yaml", "--seconds", "1"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert (tmp_path / "asked.txt").read_text().split()[-2:] == ["-e", what]
