import re
from pathlib import Path

import pytest
import yaml

from tests.base_configs import MINIMAL
from vtrain.config import Config, config_from_text, load_config
from vtrain.errors import ConfigError


def config(text: str = MINIMAL, *overrides: str) -> Config:
    return config_from_text(text, "run.yaml", overrides)


def mistakes(text: str = MINIMAL, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(text, *overrides)
    return caught.value.lines()


def test_defaults_are_filled_in_from_signatures() -> None:
    found = config()
    assert found.model.embed_dim == 192  # the preset of vit_ti
    assert found.schedule.name == "cosine"
    assert found.train.loss.name == "cross_entropy"
    assert found.train.batch_size == 128
    assert found.augment.crop == "pad"
    assert found.optimizer.lr == 1e-3


def test_the_native_image_size_is_filled_in() -> None:
    assert config(MINIMAL.replace(", image_size: 8", "")).data.image_size == 224


def test_the_saved_config_reproduces_itself() -> None:
    found = config(MINIMAL, "train.ema_decay=0.99", "data.num_workers=2")
    again = config_from_text(found.to_yaml(), "config.yaml")
    assert again.model_dump() == found.model_dump()
    assert yaml.safe_load(found.to_yaml())["train"]["ema_decay"] == 0.99


def test_an_override_is_checked_like_the_file_and_wins() -> None:
    assert config(MINIMAL, "train.epochs=5", "model.name=vit_s").train.epochs == 5
    assert mistakes(MINIMAL, "train.epochs=five") == [
        "train.epochs is \"five\" (command line 'train.epochs=five'): must be an integer"
    ]
    assert "did you mean 'epochs'" in mistakes(MINIMAL, "train.epoch=5")[0]


@pytest.mark.parametrize("override", ["train.epochs", "=5", "train..epochs=5", ".x=1"])
def test_what_is_no_override_is_refused(override: str) -> None:
    assert "KEY=VALUE" in mistakes(MINIMAL, override)[0]


def test_an_override_through_a_value_is_refused() -> None:
    assert "no section" in mistakes(MINIMAL, "train.epochs.x=5")[0]


def test_all_mistakes_are_reported_at_once_with_their_lines() -> None:
    text = """\
model: {name: vit_ti, patch_sz: 4}
data: {name: digits, image_size: 8}
optimizer: {name: adamww, lr: 1e-3}
train:
  epochs: -1
  batch_size: 0.5
  epochs: 3
"""
    assert mistakes(text) == [
        "unknown key 'model.patch_sz' (run.yaml:1): did you mean 'patch_size'?",
        "optimizer.name: unknown optimizer 'adamww' (run.yaml:3): did you mean 'adamw'?",
        "train.epochs is -1 (run.yaml:5): must be greater than 0",
        "train.batch_size is 0.5 (run.yaml:6): must be an integer or 'auto'",
        "key 'train.epochs' appears twice (run.yaml:7): remove one; the first is in line 5",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=true", "must be an integer"),
        ("train.epochs=1.0", "must be an integer"),
        ("train.epochs=010", "must be an integer"),
        ("train.epochs=[1]", "must be an integer"),
        ("train.epochs=null", "must be an integer"),
        ("optimizer.lr=-1", "must be greater than 0"),
        ("optimizer.lr=.nan", "must be a number"),
        ("optimizer.lr=1e999", "must be a number"),
        ("optimizer.lr=yes", "must be a number"),
        ("train.deterministic=yes", "must be true or false"),
        ("train.deterministic=1", "must be true or false"),
        ("train.compile=on", "'auto' or true or false"),
        ("train.device=cuda:x", "auto, cpu, cuda or cuda:N"),
        ("train.device=meta", "auto, cpu, cuda or cuda:N"),
        ("train.precision=fp8", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("train.ema_decay=1", "must be less than 1"),
        ("data.num_workers=-1", "greater than or equal to 0"),
        ("data.num_workers=100000", "less than or equal to 256"),
        ("data.image_size=0", "greater than or equal to 1"),
        ("data.image_size=1000000", "less than or equal to 8192"),
        ("model.drop_path_rate=1.5", "must be less than 1"),
        ("train.loss.label_smoothing=2", "less than or equal to 1"),
        ("seed=-1", "greater than or equal to 0"),
        ("model=7", "mapping of keys"),
        ("augment.policy={name: trivialaugment}", "did you mean 'trivialaugment_wide'"),
        ("augment.policy={magnitude: 3}", "needs the key 'name'"),
        ("checkpoint.every_minutes=0", "must be greater than 0"),
    ],
)
def test_a_value_out_of_range_or_type_is_refused(override: str, expected: str) -> None:
    (line, *_) = mistakes(MINIMAL, override)
    assert expected in line
    assert override.partition("=")[0] in line


@pytest.mark.parametrize(
    "name", ["os.system", "__class__", "vtrain.models.vit.ViT", "../x", "${HOME}", "{{x}}"]
)
def test_a_name_is_looked_up_and_never_imported_or_expanded(name: str) -> None:
    assert "unknown model" in mistakes(MINIMAL.replace("vit_ti", f"'{name}'"))[0]


def test_a_missing_section_is_named() -> None:
    text = MINIMAL.replace("optimizer: {name: adamw, lr: 1e-3}", "")
    assert mistakes(text)[0].startswith("missing key 'optimizer' (run.yaml)")


def test_a_section_without_a_name_asks_for_it() -> None:
    assert mistakes(MINIMAL.replace("name: vit_ti, ", ""))[0].startswith(
        "missing key 'model.name' (run.yaml:2)"
    )


def test_relative_data_paths_no_longer_depend_on_the_folder(tmp_path: Path) -> None:
    text = MINIMAL.replace("name: digits", "name: image_folder, root: ~/photos")
    assert config(text).data.root == Path("~/photos").expanduser()
    text = text.replace("~/photos", "photos")
    assert config(text).data.root == Path.cwd() / "photos"


def test_a_config_is_frozen(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        load_config(path).train.epochs = 3  # type: ignore[misc]


def test_a_key_inside_a_choice_of_sections_is_named_without_the_choice() -> None:
    (line,) = mistakes(MINIMAL, "augment.policy={name: augmix, widht: 3}")
    assert line.startswith("unknown key 'augment.policy.widht'")


def test_an_override_may_add_to_a_component_that_is_only_a_name() -> None:
    found = config(MINIMAL, "augment.policy=randaugment", "augment.policy.magnitude=4")
    assert found.augment.policy.magnitude == 4


@pytest.mark.parametrize(
    ("weights", "mistake"),
    [
        ("{cat: -1, dog: 1}", "cat is -1 (.*): must be greater than or equal to 0"),
        ("[1, x]", '1 is "x" (.*): must be a number'),
    ],
)
def test_of_a_union_only_the_member_that_was_meant_complains(weights: str, mistake: str) -> None:
    (line,) = mistakes(MINIMAL, f"train.loss.class_weights={weights}")
    assert re.search(rf"train\.loss\.class_weights\.{mistake}", line)
