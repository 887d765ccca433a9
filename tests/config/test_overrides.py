"""Values on the command line, and names in place of sections."""

from pathlib import Path

import pytest

from tests.base_configs import MINIMAL
from vtrain.config import Config, config_from_text
from vtrain.errors import ConfigError

FOLDER = MINIMAL.replace("name: digits", "name: image_folder, root: photos")


def config(*overrides: str, text: str = FOLDER) -> Config:
    return config_from_text(text, "run.yaml", overrides)


@pytest.mark.parametrize(
    "name",
    [
        "photos #1", "[2024] photos", "a: b", "*photos", "@photos", "%photos", "it's", "{a}",
        "&a", "!a", "| a", "- a", "? a", "`a", "a:", "#a", "2024", "010", "1e3", "true", "null",
        "100%", "a=b", "-", ",",
    ],
)  # fmt: skip
def test_a_path_on_the_command_line_is_the_text_it_is(name: str) -> None:
    assert config(f"data.root={name}").data.root == Path.cwd() / name
    teacher = f"train.distillation.teacher={name}"
    assert config(teacher).train.distillation.teacher == str(Path.cwd() / name)


def test_quotes_around_a_path_are_not_its_own() -> None:
    assert config("data.root='my photos'").data.root == Path.cwd() / "my photos"


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_null_is_null_where_a_key_may_be_null(text: str) -> None:
    assert config("model.pretrained=x", f"model.pretrained={text}").model.pretrained is None


def test_a_hash_is_no_null() -> None:
    assert config("model.pretrained=#x").model.pretrained == str(Path.cwd() / "#x")


@pytest.mark.parametrize(("text", "path"), [("~", "~"), ("~/x", "~/x"), ("~nobody-here/x", None)])
def test_a_tilde_is_the_home_folder(text: str, path: str | None) -> None:
    expected = Path.cwd() / text if path is None else Path(path).expanduser()
    assert config(f"data.root={text}").data.root == expected


@pytest.mark.parametrize("text", ["2024", "010", "1e3", "true"])
def test_a_folder_in_the_file_may_be_named_by_a_number(text: str) -> None:
    found = config(text=FOLDER.replace("photos", text))
    assert found.data.root == Path.cwd() / text


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.root is null"):
        config("data.root=")
    with pytest.raises(ConfigError, match=r"data\.root is null"):
        config(text=FOLDER.replace("photos", ""))


@pytest.mark.parametrize("override", ["train.epochs=[1", "train.epochs=a: b: c", "seed=@1"])
def test_where_no_text_is_wanted_a_value_has_to_be_yaml(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override)
    (line,) = caught.value.lines()
    assert override in line


def test_a_component_may_be_its_name_alone() -> None:
    text = "model: swin_t\ndata: digits\nschedule: constant\n"
    found = config(
        text=f"{text}optimizer: {{name: adamw, lr: 1}}\ntrain: {{epochs: 1, loss: focal}}"
    )
    assert found.model.name == "swin_t"
    assert found.data.name == "digits"
    assert found.schedule.name == "constant"
    assert found.train.loss.name == "focal"


def test_another_component_on_the_command_line_keeps_what_the_file_says_beside_its_name() -> None:
    found = config("optimizer=lamb", "train.loss=focal", "schedule=constant")
    assert (found.optimizer.name, found.optimizer.lr) == ("lamb", 1e-3)
    assert (found.train.loss.name, found.schedule.name) == ("focal", "constant")


def test_the_last_of_two_overrides_counts_also_if_the_first_is_no_yaml() -> None:
    assert config("train.epochs=[1", "train.epochs=3").train.epochs == 3


@pytest.mark.parametrize(
    "override",
    [
        *("model=resnet50", "data=nothing", "optimizer=nadam", "schedule=triangle"),
        *("train.loss=mse", "augment.policy=none_such", "model.name=resnet50"),
        "model={name: resnet50}",
    ],
)
def test_an_unknown_component_is_looked_for_where_it_was_typed(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(override)
    (line,) = caught.value.lines()
    assert f"(command line '{override}')" in line
