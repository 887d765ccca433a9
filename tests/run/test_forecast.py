"""The time that is said before a run starts: what it is made of, and that it changes nothing."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.harness import Vtrain
from tests.run.test_photos import folder
from vtrain.config import load_config
from vtrain.data.loading.decoded import Decoded
from vtrain.data.loading.unreadable import Unreadable
from vtrain.files.checkpoint import Checkpoint
from vtrain.run import forecast
from vtrain.run.build.data import build_source
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.forecast import Costs, images_per_second


def by_hand(costs: Costs, epochs: int, every: int) -> Iterator[tuple[str, float]]:
    """Yield what happens in a run, one after another, with its seconds."""
    yield "once", costs.once
    for epoch in range(1, epochs + 1):
        for _ in range(costs.images):
            if costs.workers:
                yield "image", max(costs.step, costs.read / costs.workers)
            else:
                yield "image", costs.read + costs.step
        if epoch % every == 0:
            yield "evaluation", costs.val * costs.step / 3


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("every", [1, 2])
def test_the_time_is_the_sum_of_what_happens(workers: int, every: int) -> None:
    costs = Costs(images=30, val=10, step=0.2, read=0.5, once=7, workers=workers)
    events = list(by_hand(costs, 4, every))
    first = [name for name, _ in events].index("evaluation")
    until_figures = sum(seconds for _, seconds in events[: first + 1])
    assert costs.until_figures(every) == pytest.approx(until_figures)
    assert costs.until_end(4, every) == pytest.approx(sum(seconds for _, seconds in events))


def trial(
    monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int, int], float]
) -> tuple[list[int], Callable[..., object]]:
    """Let a step of n images, the k-th of its size, take so many seconds on a clock of its own."""
    now, made = [0.0], []

    def step(images: int) -> None:
        now[0] += seconds(images, made.count(images))
        made.append(images)

    monkeypatch.setattr(forecast.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(forecast, "trial_steps", lambda plan: (None, step))
    return made, step


def test_steps_grow_to_the_batch_and_the_last_is_made_twice(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = resolve(load_config(small_run))
    made, _ = trial(monkeypatch, lambda images, again: 0.001 * images * (1 if again else 5))
    rate, tried = images_per_second(plan)
    assert made == [1, 2, 4, 8, 16, 32, 32]
    assert (rate, tried) == (pytest.approx(1000), 32)


def test_a_slow_model_is_tried_on_few_images(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = resolve(load_config(small_run))
    made, _ = trial(monkeypatch, lambda images, _: 0.4 * images)
    assert images_per_second(plan) == (pytest.approx(2.5), 2)
    assert made == [1, 2, 2]


def test_images_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", {"a": 4, "b": 4})
    (root / "a/0.png").write_bytes(b"none")
    config = load_config(
        Path("configs/vit_cifar_small.yaml"), [f"data.root={root}", "data.val_fraction=0.25"]
    )
    parts = build_parts(resolve(config, source=build_source(config)))
    unreadable = Unreadable("error", 8)
    decoded = parts.train_loader.decoded
    decoded = Decoded(
        decoded.samples,
        decoded.transform,
        unreadable,
        decoded.unused,
        torch.device("cpu"),
        0,
        "none",
    )
    assert 0 < decoded.seconds_per_image(8) < 1
    assert not unreadable.left_out


def weights(run: str) -> list[torch.Tensor]:
    stored = Checkpoint.load(Path(run, "last.pt")).state["model"]
    return [stored[name] for name in sorted(stored)]


def test_a_forecast_comes_before_training_and_changes_no_bit_of_it(
    vtrain: Vtrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "photos", {"a": 10, "b": 10})
    small = ("train.epochs=2", "schedule.warmup_epochs=0", "model.depth=1", "model.drop_rate=0.1")
    first = vtrain("fit", "photos", *small, "--run-dir", "first")
    assert first.code == 0, first.err
    said = r"^time +about 0:\d\d, the first figures after about 0:\d\d: .* 16 images"
    assert re.search(said, first.err, re.M)
    assert first.err.index("time  ") < first.err.index("epoch 1/2")
    again = vtrain("fit", "first", "--run-dir", "second")  # the same config, with no folder to ask
    assert not re.search("^time ", again.err, re.M)
    assert all(map(torch.equal, weights("first"), weights("second")))
