import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from vtrain.cli import main
from vtrain.engine.stop import STOP_SIGNALS
from vtrain.models.base import ImageClassifier
from vtrain.registry import MODELS


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


SMALL_RUN = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 70}
augment: {crop_padding: 2}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 2, batch_size: 32, ema_decay: 0.9, precision: fp32}
logging: {every_steps: 2, tensorboard: false}
"""
"""A run of six steps, three in each epoch, that takes less than a second."""


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder and return the config of a small run in it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_RUN)
    return path


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def vtrain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the command line in this process: the real entry point, without waiting for torch."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vtrain", *map(str, arguments)])
        capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return run


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
