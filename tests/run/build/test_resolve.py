"""What is decided before anything is built, and that it is decided once."""

import collections
import dataclasses
import functools
from pathlib import Path

import pytest
import yaml

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.data.datasets.builtin import Fake
from vtrain.run import find_lr
from vtrain.run.build import batch_size
from vtrain.run.build.parts import Parts
from vtrain.run.build.plan import Plan
from vtrain.run.build.resolve import resolve


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often the dataset is built, and each of its splits is listed."""
    counts: collections.Counter[str] = collections.Counter()
    build, split = Fake.__init__, Fake.split

    @functools.wraps(build)  # the signature is the schema
    def built(self: Fake, **arguments: int) -> None:
        counts["built"] += 1
        build(self, **arguments)

    def listed(self: Fake, name: str) -> object:
        counts[name] += 1
        return split(self, name)

    monkeypatch.setattr(Fake, "__init__", built)
    monkeypatch.setattr(Fake, "split", listed)
    return counts


@pytest.mark.parametrize(
    "command",
    [
        "fit {} --run-dir run",
        "fit {} --run-dir run data.val_fraction=0.25 data.limit=40",
        "fit {} --overfit 8 optimizer.lr=0.01",
        "check {}",
        "check {} --data",
        "check {} --lr-find",
        "bench {} --seconds 0.1",
    ],
)
@pytest.mark.parametrize("size", ["32", "auto"])
def test_a_command_lists_a_dataset_once(
    small_run: Path,
    vtrain: Vtrain,
    listings: collections.Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    size: str,
) -> None:
    """A folder of a million files takes minutes."""
    monkeypatch.setattr(find_lr, "STEPS", 20)
    done = vtrain(*command.format(small_run).split(), f"train.batch_size={size}")
    assert done.code == 0, done.err
    assert listings["built"] == 1
    assert listings["train"] == 1
    assert listings["val"] <= 1


def test_the_config_that_is_saved_has_the_number(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.batch_size=auto")
    assert yaml.safe_load(Path("run/config.yaml").read_text())["train"]["batch_size"] == 64


def test_a_number_is_taken_as_it_is_and_auto_as_the_run_had_it(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing is to be found out")

    monkeypatch.setattr(batch_size, "estimated", never)
    assert resolve(load_config(small_run)).batch_size == 32
    assert resolve(load_config(small_run), batch_size=16).batch_size == 32
    auto = load_config(small_run, ["train.batch_size=auto"])
    assert resolve(auto, batch_size=16).config.train.batch_size == 16


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ([], (3, 6)),  # 70 images: 32 + 32 + 6
        (["train.batch_size=35"], (2, 4)),
        (["train.batch_size=100"], (1, 2)),
        (["train.max_steps=5"], (3, 5)),
        (["train.max_steps=50"], (3, 6)),
    ],
)
def test_a_plan_counts_steps(small_run: Path, overrides: list[str], steps: tuple[int, int]) -> None:
    plan = resolve(load_config(small_run, overrides))
    assert (plan.steps_per_epoch, plan.total_steps) == steps
    assert plan.schedule_steps == 2 * steps[0]


def test_a_plan_is_frozen_and_parts_are_few(small_run: Path) -> None:
    plan = resolve(load_config(small_run))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.precision = "bf16"  # type: ignore[misc]
    assert max(len(dataclasses.fields(kind)) for kind in (Plan, Parts)) <= 12
