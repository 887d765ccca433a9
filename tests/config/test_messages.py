"""What each kind of mistake is called."""

import json
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from vtrain.config import config_from_text
from vtrain.config.messages import requirement
from vtrain.config.sections import TrainSection
from vtrain.errors import ConfigError
from vtrain.registry import Fraction, Section

DEVICE = TrainSection.model_fields["device"].rebuild_annotation()
KINDS = [
    (bool, 1, "must be true or false"),
    (int, "five", "must be an integer"),
    (int, 1.5, "must be an integer"),
    (int, "16", "must be an integer: write it without quotes"),
    (float, "1e-3", "must be a number: write it without quotes"),
    (float, "1e400", "must be a number, and this one is too large"),
    (float, "x", "must be a number"),
    (str, 1, "must be a string"),
    (list[int], 1, "must be a list"),
    (tuple[int, int], [1], "must have more items"),
    (Section, 7, "must be a mapping of keys"),
    (None, 1, "null"),
    (Fraction, 2.0, "must be less than or equal to 1"),
    (DEVICE, "tpu", "must be auto, cpu, cuda or cuda:N"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), KINDS, ids=str)
def test_a_requirement_is_in_the_words_of_the_config(
    kind: Any, value: object, expected: str
) -> None:
    section = create_model("Any", __base__=Section, key=(kind, ...))
    with pytest.raises(ValidationError) as caught:
        section.model_validate_json(json.dumps({"key": value}))
    assert requirement(caught.value.errors()[0]) == expected


OTHER = """\
model: {name: vit_ti, patch_size: 2, pooling: mean, num_registers: 0,
        drop_rate: 0.1}
data: {name: digits, image_size: 8}
optimizer: {name: adamw, lr: 1e-3, betas: [0.9, 0.99]}
train: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.name=swin_t",
            "swin_t has no key model.pooling, model.num_registers, model.drop_rate, as the model "
            "of the file has (x.yaml:1): "
            "write model={name: swin_t} to leave that with its keys out",
        ),
        (
            "optimizer=sgd",
            "sgd has no key optimizer.betas, as the optimizer of the file has (x.yaml:4): "
            "write optimizer={name: sgd} to leave that with its keys out",
        ),
    ],
)
def test_keys_of_a_component_that_an_override_replaces_are_one_mistake(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_text(OTHER, "x.yaml", [override])
    assert caught.value.lines() == [message]


def test_a_slip_beside_them_is_a_mistake_of_its_own() -> None:
    text = OTHER.replace("drop_rate: 0.1", "patch_sise: 4")
    with pytest.raises(ConfigError) as caught:
        config_from_text(text, "x.yaml", ["model.name=swin_t"])
    assert [line.partition(" (")[0] for line in caught.value.lines()] == [
        "swin_t has no key model.pooling, model.num_registers, as the model of the file has",
        "unknown key 'model.patch_sise'",
    ]
