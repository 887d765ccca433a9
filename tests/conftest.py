import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.base_configs import SMALL_RUN
from tests.harness import Vtrain, run_here
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS

# Under `nohup` it is ignored, and stays so in every process that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def stated(name: str, constant: str) -> dict[str, Any]:
    """Return what the test of a model's own file states of the family, such as `TINY`."""
    file = MODELS[name].constructor.__module__.rpartition(".")[2]
    module = importlib.import_module(f"tests.models.test_{file}")
    return getattr(module, constant, {})


def tiny(name: str, **arguments: object) -> ImageClassifier:
    """Build the model `name` small enough to run in milliseconds, with seeded weights."""
    torch.manual_seed(0)
    model: ImageClassifier = MODELS[name](
        **{"num_classes": 10, "image_size": 32, **stated(name, "TINY"), **arguments}
    )
    return model


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_flush_denormal(False)  # as a process starts: a command of another test sets it


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder and return the config of a small run in it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RUN)
    return path


@pytest.fixture
def vtrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vtrain:
    """Run the command line in this process: the real entry point, without waiting for torch."""

    return lambda *arguments: run_here(monkeypatch, capsys, *arguments)


@pytest.fixture
def script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a script's `main` on the small config: its exit code and what it printed."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL_RUN)

    def run(main: Callable[[], int], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["script", str(config), *arguments])
        threads = torch.get_num_threads()
        try:
            return main(), "".join(capsys.readouterr())
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """Return the folder of real photographs that VTRAIN_CIFAR10 names, or skip the test."""
    folder = os.environ.get("VTRAIN_CIFAR10")
    if folder is None and "VTRAIN_REQUIRE_CIFAR10" in os.environ:
        pytest.fail("VTRAIN_CIFAR10 must name the folder of photographs here")
    if folder is None:
        pytest.skip("VTRAIN_CIFAR10 does not name a folder of photographs")
    return Path(folder)
