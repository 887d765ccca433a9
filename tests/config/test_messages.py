"""What each kind of mistake is called."""

import json
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from vtrain.config.messages import requirement
from vtrain.config.sections import TrainSection
from vtrain.registry import Fraction, Section

DEVICE = TrainSection.model_fields["device"].rebuild_annotation()
KINDS = [
    (bool, 1, "must be true or false"),
    (int, "five", "must be an integer"),
    (int, 1.5, "must be an integer"),
    (int, "16", "must be an integer: write it without quotes"),
    (float, "1e-3", "must be a number: write it without quotes"),
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
