"""Configs of older versions."""

import contextlib
import logging
import re
from pathlib import Path

import pytest

from vtrain.config import Config, config_from_text, load_config
from vtrain.config.retired import RETIRED
from vtrain.errors import ConfigError

TEXT = """\
model: {name: vit_ti, patch_size: 2}
data: {name: digits, image_size: 8, reducing_gap: 2.0}
optimizer: {name: adamw, lr: 1e-3}
train:
  epochs: 1
"""
GONE = {row.keys for row in RETIRED if row.instead is None}


def stored(line: str, *overrides: str) -> Config:
    return config_from_text(f"{TEXT}  {line}\n", "its config", overrides)


def typed(tmp_path: Path, line: str) -> Config:
    path = tmp_path / "run.yaml"
    path.write_text(f"{TEXT}  {line}\n")
    return load_config(path)


def test_what_is_retired_is_no_longer_in_the_schema() -> None:
    for _, *path in GONE:
        assert not set(path) & set(config_from_text(TEXT, "run.yaml").train.model_dump())


def test_the_only_way_that_is_left_loads_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert stored("window_attention: torch").to_yaml() == stored("").to_yaml()
    assert typed(tmp_path, "window_attention: torch").to_yaml() == stored("").to_yaml()
    assert caplog.records == []


@pytest.mark.parametrize("kernel", ["triton", "fastest"])
def test_a_removed_key_is_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kernel: str
) -> None:
    with caplog.at_level(logging.INFO):
        assert typed(tmp_path, f"window_attention: {kernel}").to_yaml() == stored("").to_yaml()
    (record,) = caplog.records
    assert f"train.window_attention is no longer {kernel}" in record.getMessage()
    assert "run.yaml:6" in record.getMessage()


def test_a_stored_value_becomes_its_successor_with_a_note(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert stored("precision: bf16_full").train.precision == "bf16"
    (record,) = caplog.records
    assert "bf16 takes its place" in record.getMessage()
    assert stored("precision: bf16_full", "train.precision=fp32").train.precision == "fp32"


def test_a_typed_value_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(tmp_path, "precision: bf16_full")
    path = tmp_path / "run.yaml"
    line = f"train.precision is no longer bf16_full ({path}:6): write bf16"
    assert caught.value.lines() == [line]
    with pytest.raises(ConfigError, match="no longer bf16_full"):
        stored("", "train.precision=bf16_full")


@pytest.mark.parametrize("train", ["5", "[]", "{epochs: 1, window_attention: [torch]}"])
def test_what_is_no_section_is_left_to_the_schema(train: str) -> None:
    with pytest.raises(ConfigError):
        config_from_text(TEXT.partition("train")[0] + f"train: {train}\n", "run.yaml")


def test_a_key_that_is_gone_cannot_be_typed_as_an_override(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match=r"unknown key 'train\.window_attention'"):
        load_config(path, ["train.window_attention=torch"])


def test_a_stored_config_without_a_newer_key_goes_on_as_it_was_run(tmp_path: Path) -> None:
    """A file that somebody writes without it asks for the default."""
    text = TEXT.replace(", reducing_gap: 2.0", "")
    assert text != TEXT
    assert config_from_text(text, "its config").data.model_dump()["reducing_gap"] is None
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert load_config(path).data.model_dump()["reducing_gap"] == 2
    for data in ("5", "digits"):  # no section: the schema says what it is
        odd = re.sub("data: .*", f"data: {data}", TEXT)
        with contextlib.suppress(ConfigError):
            assert config_from_text(odd, "its config").data.name == "digits"
