"""The JSON Schema against the program itself: what one takes the other takes."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.base_configs import MINIMAL
from vtrain.config.json_schema import json_schema, raw_schema
from vtrain.config.read import validated
from vtrain.errors import ConfigError
from vtrain.files.yaml import Document, parse_yaml, read_yaml

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def says_no(data: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


def test_it_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", sorted(Path("configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_is_valid(file: Path) -> None:
    assert says_no(read_yaml(file).data) == []


def test_a_misspelt_key_is_told_about_its_own_component() -> None:
    data = parse_yaml(MINIMAL, "run.yaml").data
    data["model"]["depht"] = 3
    assert says_no(data) == ["Additional properties are not allowed ('depht' was unexpected)"]


@pytest.mark.parametrize(
    ("section", "name"),
    [("model", "swin_t"), ("schedule", "cosine"), ("model", "swin_x"), ("optimizer", "adamw"),
     ("data", "fake"), ("data", "image_folder"), ("schedule", "multi_step")],
)  # fmt: skip
def test_a_section_may_be_the_name_of_its_component(section: str, name: str) -> None:
    data = parse_yaml(MINIMAL, "run.yaml").data
    data[section] = name
    assert (not says_no(data)) == takes(data)


def test_a_policy_of_augmentation_may_be_a_name() -> None:
    data = parse_yaml(MINIMAL, "run.yaml").data
    for name in ("augmix", "augmics"):
        data["augment"] = {"policy": name}
        assert (not says_no(data)) == takes(data) == (name == "augmix")


def test_it_has_every_key_and_no_mark_that_vtrain_alone_reads() -> None:
    def marks(node: object) -> set[str]:
        if isinstance(node, list):
            return {mark for item in node for mark in marks(item)}
        if not isinstance(node, dict):
            return set()
        # A config's key of that name would be a schema, not a value.
        names = {"overfit", "resume", "eval"} & node.keys()
        own = {mark for mark in names if not isinstance(node[mark], dict)}
        return own.union(*map(marks, node.values()))

    assert marks(SCHEMA) == set()
    raw = raw_schema()["$defs"]
    assert {name: set(one["properties"]) for name, one in raw.items() if "properties" in one} == {
        name: set(one["properties"]) for name, one in SCHEMA["$defs"].items() if "properties" in one
    }


VALUES = [
    0,
    1,
    -1,
    0.5,
    2,
    1e9 + 0.5,
    "auto",
    "none",
    "cosine",
    None,
    True,
    [],
    [0.5, 0.5],
    {},
    "x",
]


def random_changes(seed: int) -> dict[str, Any]:
    """Return a valid config of which one random key has a random value."""
    draw = random.Random(seed)
    data: dict[str, Any] = parse_yaml(MINIMAL, "run.yaml").data
    section = draw.choice(["model", "data", "optimizer", "train", "augment", "schedule", "logging"])
    keys = {
        "model": ["depth", "drop_rate", "pooling", "embed_dim", "freeze", "qkv_bias", "nothing"],
        "data": ["val_fraction", "limit", "cache", "resize", "mean", "num_workers"],
        "optimizer": ["lr", "betas", "weight_decay", "layer_decay"],
        "train": ["epochs", "batch_size", "device", "compile", "ema_decay", "precision", "loss"],
        "augment": ["mixup", "crop", "horizontal_flip", "crop_scale", "mix_off_epoch"],
        "schedule": ["name", "floor", "warmup_epochs", "milestones"],
        "logging": ["every_steps", "images", "tensorboard"],
    }
    value = draw.choice(VALUES)
    data.setdefault(section, {})[draw.choice(keys[section])] = value
    return data


def takes(data: dict[str, Any]) -> bool:
    try:
        validated(Document("run.yaml", json.loads(json.dumps(data))))
    except ConfigError:
        return False
    return True


def test_it_agrees_with_the_program_on_random_values() -> None:
    both = []
    for seed in range(100):
        data = random_changes(seed)
        taken = takes(data)
        both.append(taken)
        assert (not says_no(data)) == taken, (seed, data)
    assert 10 < sum(both) < 90, "both kinds were tried"
