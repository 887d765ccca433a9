"""`scripts/gpu_check`, with stand-ins for the GPU and for Python: what it would run is right."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from vtrain.config import load_config


def gpu_check(folder: Path, *pieces: str, gpu: bool = True) -> "subprocess.CompletedProcess[str]":
    tools = folder / "bin"
    tools.mkdir()
    programs = {
        "nvidia-smi": f"exit {int(not gpu)}",
        "python": f'echo "$@" >> {folder}/commands.txt',
    }
    for name, line in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHON": str(tools / "python"),
        "OUT": str(folder / "out"),
        "VTRAIN_CIFAR10": "photographs",
    }
    return subprocess.run(["scripts/gpu_check", *pieces], env=env, capture_output=True, text=True)


def test_every_piece_starts_what_exists_with_keys_that_exist(tmp_path: Path) -> None:
    done = gpu_check(tmp_path)
    assert done.returncode == 0, done.stderr
    _probe, *commands = (tmp_path / "commands.txt").read_text().splitlines()
    words = [command.split() for command in commands]
    modules = {command[1] for command in words}
    assert modules == {
        "pytest", "vtrain", "benchmarks.change", "benchmarks.peers", "benchmarks.scaling",
    }  # fmt: skip
    assert all(importlib.util.find_spec(module) for module in modules)
    configs = 0
    for command in words:
        for config in (Path(word) for word in command if word.endswith(".yaml")):
            load_config(config, [word for word in command if "=" in word])
            configs += 1
    assert (
        configs == 11
    )  # four models, two of them small, twice, with and without a switch; a recipe


def test_an_unknown_piece_is_refused_with_the_pieces_there_are(tmp_path: Path) -> None:
    done = gpu_check(tmp_path, "windows")
    assert done.returncode == 2
    assert "no piece 'windows', only: tests bench small" in done.stderr


@pytest.mark.parametrize("pieces", [(), ("bench",)])
def test_without_a_gpu_nothing_is_run(tmp_path: Path, pieces: tuple[str, ...]) -> None:
    done = gpu_check(tmp_path, *pieces, gpu=False)
    assert done.returncode == 6
    assert not (tmp_path / "commands.txt").exists()
