import re

import pytest

from vtrain.errors import ConfigError
from vtrain.run.text.steps_text import steps_text


def test_the_table_has_a_line_for_each_step_and_names_its_shape() -> None:
    text = steps_text("vit_b")
    assert re.search(r"^pos_drop +Dropout +\(1, 197, 768\)", text, re.M)
    assert re.search(r"^blocks.1 to blocks.11 +as blocks.0$", text, re.M)


@pytest.mark.parametrize("name", ["vit", "*", "vit_bb"])
def test_shapes_of_no_single_model_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--shapes is for one model, and none is called"):
        steps_text(name)
