"""What only a GPU shows: no step waits for it, and its memory is used and not exceeded."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain, interrupt
from vtrain.callbacks.stopping import StopOnSignal
from vtrain.config import load_config
from vtrain.engine.step_graph import WARM_UP
from vtrain.engine.stop import StopSignals
from vtrain.files.container import load_checkpoint
from vtrain.run.build import batch_size
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer

pytestmark = pytest.mark.gpu

BUSY = (
    "augment={crop: resized, mixup: 0.8, cutmix: 1.0, policy: {name: randaugment}, hue: 0.1, "
    "brightness: 0.4, grey: 0.1, blur: 0.1, erasing: 0.25, erasing_value: pixel}"
)


@pytest.fixture
def strict() -> Iterator[Callable[[], None]]:
    """Return what makes any wait for the GPU an error until the test ends."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("compiled", ["false", "true"])
@pytest.mark.parametrize(
    "data", [("data.cache=device",), ("data.cache=ram",), ("data.cache=none", "data.num_workers=1")]
)
def test_no_step_waits_for_the_gpu(
    small_run: Path, strict: Callable[[], None], data: tuple[str, ...], compiled: str
) -> None:
    config = load_config(
        small_run,
        [BUSY, "data.num_images=320", "train.precision=bf16", f"train.compile={compiled}", *data],
    )
    parts = build_parts(resolve(config))
    trainer = build_trainer(parts, [StopOnSignal(StopSignals())])
    for number, batch in enumerate(parts.train_loader.batches(0)):
        if number == 3:  # compiled, tables made, memory allocated
            strict()
        trainer.train_step(batch)
        for callback in trainer.callbacks:
            callback.on_step_end(parts.state)
    parts.train_loader.close()
    assert parts.state.step == 10


def test_no_replayed_step_waits_for_the_gpu(
    small_run: Path, strict: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(
        small_run, [BUSY, "data.num_images=320", "train.precision=bf16", "train.cuda_graph=true"]
    )
    parts = build_parts(resolve(config))
    trainer = build_trainer(parts, [StopOnSignal(StopSignals())])
    for number, batch in enumerate(parts.train_loader.batches(0)):
        if number == WARM_UP + 1:  # recorded
            strict()
        trainer.train_step(batch)
    parts.train_loader.close()
    assert parts.state.step == 10
    assert "launched as usual" not in caplog.text


def test_a_run_with_recorded_steps_goes_on_as_if_it_had_not_stopped(
    small_run: Path, vtrain: Vtrain
) -> None:
    options = ("data.num_images=320", "train.cuda_graph=true", "train.epochs=2")
    stopped = vtrain("fit", small_run, *options, "train.max_steps=13", "--run-dir", "cut")
    assert stopped.code == 0, stopped.err
    interrupt("cut")
    assert vtrain("fit", small_run, *options, "--run-dir", "cut", "--resume").code == 0
    assert vtrain("fit", small_run, *options, "--run-dir", "whole").code == 0
    cut, whole = (
        load_checkpoint(Path(name, "last.pt"))["state"]["model"] for name in ("cut", "whole")
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-3, atol=1e-5)


LARGE = (
    "model={name: vit_ti, patch_size: 4, embed_dim: 256, num_heads: 4}",
    "data={name: fake, image_size: 64, size: 64, num_classes: 4, num_images: 4096}",
    "train.compile=false",
)


def test_the_batch_that_is_found_by_trying_trains(
    small_run: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "SHARE", 0.05)
    done = vtrain("fit", small_run, "train.batch_size=auto", "train.max_steps=2", *LARGE)
    assert done.code == 0, done.err
    found = re.search(r"batch   (\d+) images, the largest", done.err)
    assert found is not None
    assert 1 < int(found[1]) < 4096


def test_out_of_memory_is_one_line_with_the_batch_size(small_run: Path, vtrain: Vtrain) -> None:
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        done = vtrain("fit", small_run, "train.batch_size=4096", *LARGE)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done.code == 6
    (line,) = [line for line in done.err.splitlines() if line.startswith("vtrain: ")]
    assert "out of memory at train.batch_size 4096" in line
