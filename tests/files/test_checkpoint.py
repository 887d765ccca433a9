"""The schema of a checkpoint: what goes into a file comes out, and nothing else is believed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import small_checkpoint
from tests.harness import Vtrain
from vtrain.errors import CheckpointError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.container import FORMAT, load_checkpoint

PATH = Path("x.pt")
KEYS = (
    *("format", "vtrain", "model", "classes", "preprocess", "dataset", "config", "metrics"),
    *("state", "is_best"),
)
"""The keys of a file of format 1, in their order; readers of that format rely on each of them."""


def content_with(**changes: Any) -> dict[str, Any]:
    return {**small_checkpoint().to_content(), **changes}


def test_a_file_has_the_keys_of_its_format_and_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(3, metrics={"val/top1": 0.5, "val/loss": float("nan")})
    checkpoint.save(tmp_path / "x.pt")
    content = torch.load(tmp_path / "x.pt", weights_only=True)
    assert tuple(content) == KEYS
    assert content["format"] == FORMAT == 1
    assert content["model"] == {
        "name": "vit_ti", "arguments": {"depth": 2}, "image_size": 16, "in_channels": 3
    }  # fmt: skip
    assert content["classes"] == ["a", "b"]
    loaded = Checkpoint.load(tmp_path / "x.pt")
    assert (loaded.step, loaded.model, loaded.classes) == (3, checkpoint.model, ("a", "b"))
    assert torch.equal(loaded.weights["w"], torch.full((1000,), 3.0))


def test_a_run_writes_exactly_this_schema(small_run: Path, vtrain: Vtrain) -> None:
    assert vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=4").code == 0
    content = load_checkpoint(Path("run/last.pt"))
    assert tuple(content) == KEYS
    assert list(content["state"]) == [
        *("model", "optimizer", "ema", "scaler", "early_stopping", "budget", "loss"),
        *("step", "epoch", "epoch_step", "skipped", "evaluated_step", "best", "metrics", "rows"),
    ]
    assert Checkpoint.from_content(content, PATH).to_content() == content


def test_thresholds_are_kept_where_there_are_any_and_not_trusted() -> None:
    content = small_checkpoint(thresholds=(0.25, 1.0)).to_content()
    assert tuple(content) == (*KEYS, "thresholds")
    assert Checkpoint.from_content(content, PATH).thresholds == (0.25, 1.0)
    assert Checkpoint.from_content(content_with(), PATH).thresholds == ()
    for wrong in ((0.5, 0.5), [0.5], [0.5, 1.5], [0.5, 1], [float("nan"), 0.5], "ab", None):
        with pytest.raises(CheckpointError, match="the checkpoint's 'thresholds' is"):
            Checkpoint.from_content({**content, "thresholds": wrong}, PATH)


def test_the_average_is_what_is_evaluated_where_there_is_one() -> None:
    raw, average = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    both = small_checkpoint(state={"model": raw, "ema": {"weights": average}})
    assert both.weights is average
    assert small_checkpoint(state={"model": raw, "ema": None}).weights is raw
    assert both.with_weights(raw).weights is raw


@pytest.mark.parametrize("key", KEYS)
def test_a_field_that_is_missing_or_of_another_kind_is_named(key: str) -> None:
    content = content_with()
    del content[key]
    with pytest.raises(CheckpointError, match=f"has no '{key}' .*x.pt"):
        Checkpoint.from_content(content, PATH)
    with pytest.raises(CheckpointError, match=f"'{key}' is None, not (a |text|true)"):
        Checkpoint.from_content(content_with(**{key: None}), PATH)


MODEL: dict[str, Any] = {"name": "vit_ti", "arguments": {}, "image_size": 8, "in_channels": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": True}, "'format' is True, not a whole number"),
        ({"model": {}}, "has no 'model.name'"),
        ({"model": {**MODEL, "image_size": "8"}}, "'model.image_size' is '8', not a whole"),
        ({"model": {**MODEL, "arguments": [1]}}, r"'model.arguments' is \[1\], not a mapping"),
        ({"classes": ["a", 1]}, r"'classes' is \['a', 1\], not a list of names"),
        ({"metrics": {"val/top1": "high"}}, "'metrics' is .*, not a mapping of names to numbers"),
        ({"state": {}}, "'state.model' is None, not a mapping"),
        ({"state": {"model": {}}}, "'state.model' is {}, not a mapping"),
        ({"state": {"model": {"w": 1}}}, "'state.model.w' is 1, not a tensor"),
        ({"state": {"model": {"w": torch.ones(1)}, "ema": [2]}}, r"'state.ema' is \[2\]"),
        ({"state": {"model": {"w": torch.ones(1)}, "ema": {"weights": 1}}}, "'state.ema' is 1"),
    ],
)
def test_what_is_wrong_within_a_field_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.from_content(content_with(**change), PATH)
    assert len(caught.value.lines()) == 1


def test_no_other_module_indexes_a_checkpoint() -> None:
    # A training state's own parts are known to `TrainState`, as those of any torch state dict.
    pattern = r'\b(content|checkpoint|payload|saved)(\[|\.get\()"'
    found = subprocess.run(
        ["grep", "-rnE", pattern, "vtrain", "--include=*.py"], capture_output=True, text=True
    )
    assert [row for row in found.stdout.splitlines() if not row.startswith("vtrain/files/")] == []
