"""What a sweep's file may say, and how each mistake in it is told."""

import math
from pathlib import Path

import pytest

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.errors import ConfigError
from vtrain.run.sweep_file import overrides, read_sweep

HEAD = "config: small.yaml\ntrials: 3\n"
SEEDS = "space: {seed: {low: 0, high: 3}}\n"


def mistakes(text: str) -> list[str]:
    Path("s.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_sweep(Path("s.yaml"))
    return caught.value.lines()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "{optimizer.lrr: {low: 1e-4, high: 1e-2}}",
            "key 'optimizer.lrr' (s.yaml:3): did you mean 'lr'?",
        ),
        (
            "{lr: {low: 1e-4, high: 1e-2}}",
            "unknown key 'lr' (s.yaml:3): did you mean 'opt",
        ),
        ("{model.depth: {choices: [1, 0]}}", "model.depth is 0 (s.yaml:3): must be"),
        ("{model.drop_rate: {low: 0.0, high: 1.0}}", "is 1.0 (s.yaml:3): must be less than 1"),
        ("{optimizer.name: {choices: [adamw, adm]}}", "unknown optimizer 'adm' (s.yaml:3)"),
        ("{optimizer.lr: {low: 1e-2, high: 1e-4}}", "space.optimizer.lr is"),
        ("{optimizer.lr: {low: 0, high: 0.1, log: true}}", "a low above 0 where log is true"),
        ("{optimizer.lr: {low: 0.1, high: 0.2, choices: [1]}}", "a range or choices, and not both"),
        ("{optimizer.lr: {low: 0.1}}", "must have low and high, or choices"),
        (
            "{optimizer.lr: {low: 0.1, high: 0.4, step: 0.2}}",
            "a step of which high - low is a multiple",
        ),
        (
            "{optimizer.lr: {low: 0.1, high: 0.4, log: true, step: 0.1}}",
            "log or step, and not both",
        ),
        ("{optimizer.lr: {low: 0.1, hihg: 0.4}}", "did you mean 'space.optimizer.lr.high'?"),
        ("{model.depth: {choices: [2, 2]}}", "each value once, and has 2 twice"),
        ("{model.depth: {choices: []}}", "at least one value"),
        ("{checkpoint.best_metric: {choices: [val/loss]}}", "is what the metric says"),
    ],
)
def test_a_mistake_in_the_space_is_told_with_its_line(
    small_run: Path, line: str, told: str
) -> None:
    found = mistakes(f"{HEAD}space: {line}\n")
    assert len(found) == 1
    assert told in found[0]
    assert "s.yaml" in found[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config: small.yaml\ntrials: 2\n", "a sweep has either a space or a grid"),
        ("config: small.yaml\n" + SEEDS, "a sweep of a space has a number"),
        (HEAD + "grid: {seed: [0, 1]}\n", "a grid has as many trials as cells"),
        (HEAD + SEEDS + "seeds: 2\n", "the seed is tried, and each trial"),
        (HEAD + SEEDS + "fixed: {seed: 2}\n", "seed is tried and fixed"),
        (HEAD + SEEDS + "direction: minimize\n", "better by maximize"),
        (HEAD + SEEDS + "metric: val/acc\n", "must be 'val/top1'"),
        (HEAD + SEEDS + "prunner: median\n", "did you mean 'pruner'?"),
        (HEAD + SEEDS + "fixed: {train.epoch: 2}\n", "(s.yaml:4): did you mean 'epochs'?"),
        ("config: smal.yaml\ntrials: 1\n" + SEEDS, "did you mean 'small.yaml'?"),
        ("config: .\ntrials: 1\n" + SEEDS, "this is a folder of images"),
    ],
)
def test_a_mistake_in_the_file_is_told(small_run: Path, text: str, told: str) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert told in found[0]


def test_all_mistakes_are_told_at_once(small_run: Path) -> None:
    space = "space: {model.depth: {choices: [0, 1]}, optimizer.lrr: {low: 0.1, high: 0.2}}\n"
    assert len(mistakes(HEAD + space)) == 2


def test_a_config_in_its_place_is_told_in_one_line(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", small_run.name)
    assert (done.code, len(done.errors)) == (2, 1)
    assert "this is a config, not a sweep (small.yaml): write another file, with " in done.err


def test_a_file_that_is_not_there_is_told(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "nosuch.yaml")
    assert done.code == 2
    assert "the sweep file was not found (nosuch.yaml)" in done.err


@pytest.mark.parametrize(
    "value",
    [1, 0.1, 1e-5, 1e22, True, None, "true", "1e-3", "adamw", "", "a b: c", [0.9, 0.95], math.pi],
)
def test_a_value_is_the_same_on_the_command_line(small_run: Path, value: object) -> None:
    from vtrain.files.yaml import parse_value

    (text,) = overrides({"key": value})
    found = parse_value(text.partition("=")[2], "test")
    assert (found, type(found)) == (value, type(value))


def test_values_reach_the_config(small_run: Path) -> None:
    space = "space: {optimizer: {choices: [sgd]}}\nfixed: {seed: 5}\n"
    Path("s.yaml").write_text(HEAD + space)
    sweep, text, config = read_sweep(Path("s.yaml"))
    assert (config.optimizer.name, config.seed) == ("sgd", 5)
    assert text == small_run.read_text()
    assert load_config(small_run).seed == 0
    assert sweep.better == "maximize"
